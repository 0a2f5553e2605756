"""What a generator makes of a few layouts and styles, to look at while it trains."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stedm.config import IGNORE_INDEX
from stedm.diffusion.pipeline import StyleLayoutPipeline
from stedm.images import to_images, to_pixels
from stedm.training import Batch

LAYOUTS, STYLES = 3, 3
STEPS = 8
"""Of the sampler, at most."""
OPEN = 160
"""Grey of a layout's open pixels."""


def write_samples(pipeline: StyleLayoutPipeline, batch: Batch, path: Path) -> None:
    """Write a grid as PNG: layouts down, styles across, the first row and column show them.

    The layouts and styles are those of a batch, the noise is always the same, and no global random generator is used.

    Args:
        pipeline: the generator.
        batch: of `GeneratorBatches`.
        path: the picture.
    """
    layouts = batch["layout"]
    known = [index for index, layout in enumerate(layouts) if (layout != IGNORE_INDEX).any()] or [0]
    rows, columns = known[:LAYOUTS], list(range(len(layouts)))[-STYLES:]
    pairs = list(product(rows, columns))
    styles: dict[str, Any] = {
        name: batch[name][[column for _, column in pairs]]
        for name in ("style_images", "style_embeddings")
        if name in batch
    }
    if "style_images" in styles:
        styles["style_images"] = to_images(styles["style_images"])
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        layout=layouts[[row for row, _ in pairs]],
        num_inference_steps=min(STEPS, pipeline.config.num_inference_steps),
        generator=[torch.Generator().manual_seed(index) for index in range(len(pairs))],
        **styles,
    ).images
    size = layouts.shape[1]
    shown = [Image.fromarray(image) for image in to_pixels(images)]
    grid = Image.new("RGB", (size * (len(columns) + 1), size * (len(rows) + 1)), "white")
    for number, row in enumerate(rows, start=1):
        grid.paste(Image.fromarray(grey(layouts[row])), (0, number * size))
    for number, column in enumerate(columns, start=1):
        if "style_images" in batch:
            grid.paste(Image.fromarray(batch["style_images"][column, 0].numpy()), (number * size, 0))
    for image, (row, column) in zip(shown, product(range(len(rows)), range(len(columns))), strict=True):
        grid.paste(image, ((column + 1) * size, (row + 1) * size))
    grid.save(path, "PNG")


def grey(layout: Tensor) -> np.ndarray:
    """(P, P) uint8: the first class is black, the last one white."""
    labels = layout.numpy()
    known = labels != IGNORE_INDEX
    most = max(1, int(labels[known].max(initial=0)))
    return np.where(known, labels.astype(float) * 255 / most, OPEN).astype(np.uint8)
