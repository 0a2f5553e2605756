"""Repainting: unannotated patches, labelled by a segmentation network, and changed by the generator so that they agree
with their labels.

A pseudo-label is wrong where the network errs. Instead of the label, the image is corrected: the patch is noised, and
denoised with the label as its layout and its own slide as its style (SDEdit, Meng et al. 2022). What the label says is
then there, in tissue of the patient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from stedm.config import IGNORE_INDEX, Device
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import autocast
from stedm.images import to_images, to_pixels
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.style.moments import joined
from stedm.synthesis.generator import load_generator, style_set
from stedm.synthesis.plan import Row
from stedm.synthesis.pseudo_labels import confident
from stedm.synthesis.shard import in_batches


def repaint(
    rows: Sequence[Row],
    files: Mapping[str, PatchFile],
    *,
    generator: Path,
    style_bank: Path,
    predict: Callable[[np.ndarray], np.ndarray],
    confidence: float,
    strength: float,
    layout_guidance_scale: float,
    options: Device = DEFAULT_DEVICE,
) -> Iterator[Generated]:
    """The patch of each row, repainted, with the labels that a network gave it; one without any label is left out.

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
        generator: folder of the pipeline.
        style_bank: folder of embeddings.
        predict: probabilities (B, C, P, P) of images (B, P, P, 3) uint8.
        confidence: least probability of a label; pixels below are left open.
        strength: share of the way to pure noise.
        layout_guidance_scale: weight of the labels (`StyleLayoutPipeline`).
        options: how CUDA is used.
    """
    pipeline, bank = load_generator(generator, style_bank, options)
    assert bank is not None

    def repainted(some: Sequence[Row]) -> list[Generated]:
        patches = np.stack([files[row["layout_slide"]].image(int(row["layout_patch"])) for row in some])
        layouts = confident(predict(patches), [confidence])
        moments = joined([bank.moments(files[row["style_slide"]]) for row in some])
        with autocast(options):
            images = pipeline(
                layout=torch.from_numpy(layouts),
                style_embeddings=torch.stack([style_set(bank, row, files) for row in some]),
                style_moments=moments,
                image=to_images(patches),
                image_moments=moments,
                strength=strength,
                layout_guidance_scale=layout_guidance_scale,
                generator=[torch.Generator().manual_seed(int(row["seed"])) for row in some],
            ).images
        return [
            Generated(int(row["image"]), image, labels, 0)
            for row, image, labels in zip(some, to_pixels(images), layouts, strict=True)
            if (labels != IGNORE_INDEX).any()
        ]

    yield from in_batches(rows, pipeline.config.batch_size, repainted)
