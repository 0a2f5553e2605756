"""What many tests need: a plan, a generator that trains in a second, and what a segmentation network was trained on."""

from functools import partial

from stedm.config import (
    Device,
    FromGenerator,
    Generator,
    GeneratorOptions,
    NoFirstStage,
    Patches,
    Plan,
    PlanOptions,
    ShardOptions,
    TissueClass,
    merge,
)
from stedm.diffusion.training import train_generator
from stedm.segmentation.network import Dataset, Moments, Normalisation
from stedm.shards import Shard
from stedm.style.canonical import as_lists
from stedm.synthesis.generator import generate
from stedm.synthesis.plan import plan_images
from stedm.synthesis.shard import make_shard

CLASSES = ["stroma", "tumour"]
TINY = {
    "preset": "demo",
    "unet": {"channels": [16, 32], "attention": [False, True], "blocks_per_level": 1, "head_dim": 8},
    "style": {"images": 2, "encoder": {"dim": 16}, "tokens": 2},
    "training": {"steps": 3, "batch_size": 4, "ema_decay": 0.5},
    "sampling": {"steps": 2},
}


def options(**over):
    return Generator.model_validate(merge(TINY, over))


def generator_options(chosen, **over):
    """What the training of a generator needs to know."""
    defaults = {
        "generator_name": "styled",
        "first_stage": NoFirstStage(unshuffle=4),
        "device": Device(),
        "class_names": CLASSES,
        "seed": 0,
    }
    return GeneratorOptions(generator=chosen, **defaults | over)


def train(study, chosen, name="model", work="work", folders=None, **over):
    """Train a generator on a tiny study; `folders` are those of first stage, latents and style bank."""
    out = study / name
    inputs = study / "split.csv", study / "patches"
    train_generator(generator_options(chosen, **over), *inputs, work=study / work, out=out, **folders or {})
    return out


def plan(study, kind="generator", **over):
    """Write the plan of a source for a tiny study."""
    chosen = Plan(**({"images": 20, "shards": 2, "style_images": 2} | over))
    options = PlanOptions(synthesis=chosen, kind=kind, source_name="some", split_name="split", seed=0)
    return plan_images(options, study / "split.csv", study / "patches", out=study / "plan.csv")


def shard_options(source=None):
    """What the making of a shard needs to know."""
    source = source or FromGenerator(generator="styled", styled=True, filter=None)
    return ShardOptions(source=source, source_name="some", class_names=CLASSES)


def shard(study, function, source=None, number=0, out="0.h5", plan="plan.csv"):
    """A shard of a plan of a tiny study, made by a function of rows and files."""
    make_shard(shard_options(source), function, study / plan, number, study / "patches", out=study / out)
    return Shard(study / out)


def generated(study, generator, style_bank=None, chosen=None, agreement=None, **more):
    """A shard made by a generator."""
    return shard(
        study, partial(generate, generator=generator, style_bank=style_bank, chosen=chosen, agreement=agreement), **more
    )


def dataset(patches=None, classes=None, normalisation=None, reference=None):
    """What a segmentation network was trained on; `reference` are moments of images."""
    no_colours = {"mean": (0, 0, 0), "covariances": [((1, 0, 0), (0, 1, 0), (0, 0, 1))] * 4}
    return Dataset(
        classes=classes or [TissueClass(name=name, color="#e8a0bf") for name in CLASSES],
        patches=patches or Patches(size=32, level=0),
        normalisation=normalisation or Normalisation(),
        reference=Moments.model_validate(as_lists(reference) if reference else no_colours),
    )


def save_network(unet, folder, **about):
    """Save a segmentation network as its training does."""
    unet.save_pretrained(folder)
    (folder / "dataset.json").write_text(dataset(**about).model_dump_json(), encoding="utf-8")
