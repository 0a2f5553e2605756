"""Images of a generator: a layout and a style set, and what the diffusion model makes of both."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stedm import config
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import autocast, device, made_fast
from stedm.diffusion.pipeline import StyleLayoutPipeline, load_pipeline
from stedm.images import to_images, to_pixels
from stedm.seals import read_json
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.style.bank import StyleBank
from stedm.style.moments import Moments, joined, slide_moments
from stedm.synthesis.plan import Row, layout_of, patch_of
from stedm.synthesis.shard import in_batches
from stedm.training import weights_fingerprint

Agreement = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Images (B, P, P, 3) uint8 and their layouts (B, P, P) uint8 → (B,) IoU in [0, 1] of what a network sees; NaN where
the layout says nothing."""


def generate(
    rows: Sequence[Row],
    files: Mapping[str, PatchFile],
    *,
    generator: Path,
    style_bank: Path | None = None,
    strength: float = 1.0,
    chosen: config.Filter | None = None,
    agreement: Agreement | None = None,
    options: config.Device = DEFAULT_DEVICE,
) -> Iterator[Generated]:
    """The images of rows of a plan.

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
        generator: folder of the pipeline.
        style_bank: folder of embeddings; None for a generator without style.
        strength: below 1, images start from the patches of the layouts, moved as these are.
        chosen: agreement that is enough, and how often an image without it is generated again; None: never.
        agreement: of images with their layouts, by a network; needed with a filter.
        options: how CUDA is used.
    """
    pipeline, bank = load_generator(generator, style_bank, options)
    moments_of = cache(lambda slide: slide_moments(files[slide]))

    def attempt(some: Sequence[Row], redraw: int) -> tuple[np.ndarray, np.ndarray]:
        layouts = np.stack([layout_of(row, files) for row in some])
        given: dict[str, Any] = from_patches(some, files, moments_of) if strength < 1 else {}
        if bank is not None:
            given["style_embeddings"] = torch.stack([style_set(bank, row, files) for row in some])
            given["style_moments"] = joined([bank.moments(files[row["style_slide"]]) for row in some])
        with autocast(options):
            images = pipeline(
                layout=torch.from_numpy(layouts),
                strength=strength,
                **given,
                generator=[torch.Generator().manual_seed(int(row["seed"]) + redraw) for row in some],
            ).images
        return to_pixels(images), layouts

    def made_of(some: Sequence[Row]) -> list[Generated]:
        return list(agreeing(some, attempt, chosen, agreement))

    yield from in_batches(rows, pipeline.config.batch_size, made_of)


def load_generator(
    folder: Path, style_bank: Path | None, options: config.Device
) -> tuple[StyleLayoutPipeline, StyleBank | None]:
    """A generator on the device, and its style bank."""
    pipeline = load_pipeline(folder).to(device())
    made_fast(options, pipeline.unet)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, None if style_bank is None else StyleBank(style_bank, encoder_of(folder, pipeline))


def from_patches(
    rows: Sequence[Row], files: Mapping[str, PatchFile], moments_of: Callable[[str], Moments]
) -> dict[str, Any]:
    """The patches of rows' layouts, moved as the layouts are, and the moments of their slides, for the pipeline."""
    patches = np.stack([patch_of(row, files) for row in rows])
    return {"image": to_images(patches), "image_moments": joined([moments_of(row["layout_slide"]) for row in rows])}


def encoder_of(folder: Path, pipeline: StyleLayoutPipeline) -> str:
    """Fingerprint of the style encoder that a generator learned with: its own or, where that was frozen, the one of the
    style bank that it was trained on."""
    if pipeline.style_encoder is not None:
        return weights_fingerprint(pipeline.style_encoder)
    return str(read_json(folder / "provenance.json")["inputs"]["encoder"])


def style_set(bank: StyleBank, row: Row, files: Mapping[str, PatchFile]) -> torch.Tensor:
    """(n, D) embeddings of the style set of a row of the plan."""
    return bank.embeddings(files[row["style_slide"]], [int(index) for index in row["style_patches"].split()])


def agreeing(
    rows: Sequence[Row],
    attempt: Callable[[Sequence[Row], int], tuple[np.ndarray, np.ndarray]],
    chosen: config.Filter | None,
    agreement: Agreement | None,
) -> Iterator[Generated]:
    """The images of rows of the plan. With a filter, each is the first attempt that agrees with its layout or, where
    none does, the one that agrees most: networks err most on the styles that are to be learned, which lose no image.

    Args:
        rows: of the plan.
        attempt: images and layouts of rows, at a redraw.
        chosen: as of `generate`.
        agreement: as of `generate`.
    """
    best: dict[int, tuple[float, Generated]] = {}
    for redraw in range(1 + (chosen.redraws if chosen else 0)):
        images, layouts = attempt(rows, redraw)
        found = np.full(len(rows), np.inf)
        if chosen and agreement:
            found = np.nan_to_num(agreement(images, layouts), nan=np.inf)  # where nothing can be told, nothing fails
        for row, value, image, layout in zip(rows, found.tolist(), images, layouts, strict=True):
            number = int(row["image"])
            if number not in best or value > best[number][0]:
                best[number] = value, Generated(number, image, layout, redraw)
        rows = [row for row in rows if chosen and best[int(row["image"])][0] < chosen.iou]
        if not rows:
            break
    yield from (made for _, made in best.values())
