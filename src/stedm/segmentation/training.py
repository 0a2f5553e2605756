"""Training of the segmentation network, one arm at a time."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from stedm import config
from stedm.errors import UserError
from stedm.files import write_json
from stedm.processes import BatchRng, all_items, world_size
from stedm.segmentation.application import reference_moments
from stedm.segmentation.data import Batches, synthetic_count
from stedm.segmentation.losses import segmentation_loss
from stedm.segmentation.network import Dataset, Normalisation, build_network
from stedm.shards import Shard, check_made_for
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile
from stedm.training import Batch, train_and_save, weights_fingerprint
from stedm.training_set import files_of, fingerprints

ROLES = {"annotated": ("annotated",), "all": ("annotated", "unannotated")}
log = logging.getLogger(__name__)


def train_network(
    options: config.SegmentationOptions,
    split: Path,
    patches: Path,
    synthetic: Sequence[Path],
    *,
    work: Path,
    out: Path,
) -> None:
    """Train the network of one arm, or go on from its newest checkpoint, and write it as an smp folder.

    Every arm takes the same number of optimizer steps, and arms with the same annotations see the same real patches at
    each of them (see `data`). Slides of other roles than the arm trains on are never opened.

    Args:
        options: network, loss and length; the arm, which is what it trains on; the names of labels 0, 1, …
        split: table of roles, one row per slide.
        patches: folder of patch files.
        synthetic: shards of the images of its sources; empty for an arm without.
        work: folder for checkpoints, shared by all trainings.
        out: folder to write: `smp.from_pretrained(out)` loads it; with README.md, history.csv, provenance.json, and
            dataset.json, from which predictions know classes, patches and colours.

    Raises:
        UserError: nothing to train on, inputs of other classes, or an encoder or weights that cannot be had.
        Interrupted: stopped by a signal, or another process is training the same.
    """
    network, arm = options.segmentation, options.arm
    if arm.random_weights:
        network = network.model_copy(update={"encoder_weights": None})
    real = [file for file in files_of(split, patches, *ROLES[arm.annotations]) if file.annotated.any()]
    unannotated = slides_of(read_split(split), "unannotated")
    if arm.annotations == "all" and not any(file.slide in unannotated for file in real):
        log.warning("no unannotated patient has annotations: arm %s is trained on the annotated alone", options.name)
    shards = [Shard(path) for path in synthetic]
    check_made_for(shards, arm.sources, split.stem)
    sources = [[shard for shard in shards if shard.source == name] for name in arm.sources]
    check_inputs(options, split, real, shards)

    torch.manual_seed(options.seed)
    model, normalisation = build_network(network, len(options.class_names))
    model.to(memory_format=torch.channels_last)
    inputs = fingerprints(real) | {f"{shard.source}/{shard.path.name}": shard.fingerprint for shard in shards}
    if network.encoder_weights is not None:
        inputs["encoder_weights"] = weights_fingerprint(model.encoder)

    def objective(model: nn.Module, batch: Batch, rng: BatchRng) -> Tensor:
        scores = model(normalisation.apply(batch["image"]))
        return segmentation_loss(all_items(scores), all_items(batch["label"]), network.loss)  # Dice is of the batch

    def save(trained: smp.Unet, folder: Path) -> None:
        trained.cpu().to(memory_format=torch.contiguous_format).save_pretrained(folder)
        write_json(folder / "dataset.json", dataset(real, normalisation).model_dump(mode="json"))
        (folder / "README.md").write_text(model_card(options, real[0], normalisation), encoding="utf-8")

    batches = Batches(real, sources, network, arm, options.seed)
    train_and_save("segmentation", options, model, objective, batches, split, inputs, save, work=work, out=out)


def check_inputs(
    options: config.SegmentationOptions, split: Path, real: list[PatchFile], synthetic: list[Shard]
) -> None:
    """Refuse inputs that cannot be trained on.

    Raises:
        UserError: everything that is wrong with them.
    """
    network, arm, names = options.segmentation, options.arm, options.class_names
    problems = []
    if not real:
        problems.append(
            f"{split}: no annotated patch in the slides of role {' or '.join(ROLES[arm.annotations])};"
            " check their annotations (check.csv, overviews/), or splits.annotated_patients"
        )
    real_count, count = network.training.batch_size, synthetic_count(network, arm)
    if (real_count + count) % world_size():
        problems.append(
            f"arm {options.name}: {real_count} real patches and {count} synthetic images cannot be shared by"
            f" {world_size()} processes; change synthetic_ratio or training.batch_size"
        )
    problems += [
        f"arm {options.name}: no synthetic images of the source {name}; make them first"
        for name in arm.sources
        if count and not any(len(shard) for shard in synthetic if shard.source == name)
    ]
    problems += [
        f"{file.path}: its classes are {', '.join(file.class_names)}, those of the study {', '.join(names)}; make the"
        " file again"
        for file in (*real, *synthetic)
        if file.class_names != names
    ]
    sizes = {file.patch_size for file in (*real, *synthetic)}
    if len(sizes) > 1:
        problems.append(f"{split}: patches of several sizes ({sorted(sizes)} px); make the patch files again")
    if sizes and 2 * network.loss.crop_margin >= min(sizes):
        problems.append(
            f"segmentation.loss.crop_margin: {network.loss.crop_margin} px leaves nothing of {min(sizes)} px"
        )
    if problems:
        raise UserError(problems)
    patches, images = sum(int(file.annotated.sum()) for file in real), sum(map(len, synthetic))
    log.info("%d annotated patches of %d slides, %d synthetic images", patches, len(real), images)


def dataset(files: Sequence[PatchFile], normalisation: Normalisation) -> Dataset:
    """Classes, and size, resolution and tissue of the patches, as the configuration says them; colours of the input."""
    made_with = json.loads(files[0].attributes["options"])
    return Dataset(
        classes=made_with["classes"],
        patches=made_with["patches"],
        normalisation=normalisation,
        reference=reference_moments(files),
    )


def model_card(options: config.SegmentationOptions, file: PatchFile, normalisation: Normalisation) -> str:
    """README of the folder: how to load the network and what to feed it."""
    labels = ", ".join(f"{label} = {name}" for label, name in enumerate(options.class_names))
    mpp = file.attributes.get("mpp")
    scale = f" at {float(mpp):g} µm per pixel" if mpp else ""
    network, classes = options.segmentation, len(options.class_names)
    return f"""# U-Net ({network.encoder}): {options.name}

```python
import segmentation_models_pytorch as smp

network = smp.from_pretrained("<this folder>").eval()
```

Input: RGB patches{scale}, (B, 3, H, W) float32, `(rgb / 255 - mean) / std` with mean {normalisation.mean} and std
{normalisation.std}. Trained on {file.patch_size} px; H and W are multiples of {2**network.encoder_depth}.
Output: (B, {classes}, H, W) logits of {labels}.

`stedm predict --model <this folder> --out <folder> <slides>` applies it to slides; `dataset.json` has the classes, the
resolution of its patches, mean and std, and the colours of the training slides. `provenance.json` has the options,
inputs and versions it was made from, `history.csv` the loss.
"""
