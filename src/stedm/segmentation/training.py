"""Training of the segmentation network, one arm at a time."""

import difflib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from stedm import config
from stedm.errors import UserError
from stedm.files import write_json
from stedm.processes import BatchRng, all_items, world_size
from stedm.segmentation.data import MEAN, STD, Batches, normalised, synthetic_count
from stedm.segmentation.losses import segmentation_loss
from stedm.shards import Shard
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile
from stedm.training import Batch, train_and_save
from stedm.training_set import files_of, fingerprints

ROLES = {"annotated": ("annotated",), "all": ("annotated", "unannotated")}
WRONG_NAME = (KeyError, ValueError, RuntimeError, TypeError, IndexError, AssertionError)
"""What smp and timm raise for encoders, depths and weights that they do not have."""

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
            dataset.json, from which `stedm predict` knows classes and patches.

    Raises:
        UserError: nothing to train on, inputs of other classes, or an encoder or weights that cannot be had.
        Interrupted: stopped by a signal, or another process is training the same.
    """
    network, arm = options.segmentation, options.arm
    real = [file for file in files_of(split, patches, *ROLES[arm.annotations]) if file.annotated.any()]
    unannotated = slides_of(read_split(split), "unannotated")
    if arm.annotations == "all" and not any(file.slide in unannotated for file in real):
        log.warning("no unannotated patient has annotations: arm %s is trained on the annotated alone", options.name)
    shards = [Shard(path) for path in synthetic]
    sources = [[shard for shard in shards if shard.source == name] for name in arm.sources]
    check_inputs(options, split, real, shards)

    torch.manual_seed(options.seed)
    model = build_network(network, len(options.class_names)).to(memory_format=torch.channels_last)
    inputs = fingerprints(real) | {f"{shard.source}/{shard.path.name}": shard.fingerprint for shard in shards}

    def objective(model: nn.Module, batch: Batch, rng: BatchRng) -> Tensor:
        scores = model(normalised(batch["image"]))
        return segmentation_loss(all_items(scores), all_items(batch["label"]), network.loss)  # Dice is of the batch

    def save(trained: smp.Unet, folder: Path) -> None:
        trained.cpu().to(memory_format=torch.contiguous_format).save_pretrained(folder)
        write_json(folder / "dataset.json", dataset(real[0]))
        (folder / "README.md").write_text(model_card(options, real[0]), encoding="utf-8")

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


def build_network(options: config.Network, classes: int) -> smp.Unet:
    """The U-Net of the options, with random weights or the encoder's published ones.

    Raises:
        UserError: no such encoder, depth or weights, or the weights cannot be downloaded.
    """
    try:
        return smp.Unet(
            encoder_name=options.encoder,
            encoder_depth=options.encoder_depth,
            encoder_weights=options.encoder_weights,
            decoder_channels=options.decoder_channels,
            classes=classes,
        )
    except Exception as error:  # smp, timm and the hub raise a dozen types
        asked = f"{options.encoder!r} with encoder_weights {options.encoder_weights!r}"
        if isinstance(error, OSError) or (options.encoder_weights and not isinstance(error, WRONG_NAME)):
            message = (
                f"segmentation.encoder_weights: the weights of {asked} cannot be downloaded ({first_line(error)}). Go"
                " online once, or copy the hub's cache here; null starts from random weights"
            )
        else:
            close = difflib.get_close_matches(options.encoder, smp.encoders.get_encoder_names(), 1)
            hint = f"Did you mean {close[0]!r}? " if close and close[0] != options.encoder else ""
            message = (
                f"segmentation.encoder: {asked} and encoder_depth {options.encoder_depth} cannot be built"
                f" ({first_line(error)}). {hint}Encoders: https://smp.readthedocs.io/en/latest/encoders.html, or"
                " tu-<any timm model>"
            )
        raise UserError(message) from error


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error.args[0] if error.args else error).splitlines()[0][:160]}"


def dataset(file: PatchFile) -> dict[str, Any]:
    """Classes, and size, resolution and tissue of the patches, as the configuration says them."""
    options = json.loads(file.attributes["options"])
    return {key: options[key] for key in ("classes", "patches")}


def model_card(options: config.SegmentationOptions, file: PatchFile) -> str:
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

Input: RGB patches{scale}, (B, 3, H, W) float32, `(rgb / 255 - mean) / std` with ImageNet's mean {MEAN} and
std {STD}. Trained on {file.patch_size} px; H and W are multiples of {2**network.encoder_depth}.
Output: (B, {classes}, H, W) logits of {labels}.

`stedm predict --model <this folder> --out <folder> <slides>` applies it to slides; `dataset.json` has the classes and
the resolution of its patches. `provenance.json` has the options, inputs and versions it was made from, `history.csv`
the loss.
"""
