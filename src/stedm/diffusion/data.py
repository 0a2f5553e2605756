"""What a generator learns from: targets with layouts, and style sets of the same slide."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from stedm import config
from stedm.config import IGNORE_INDEX
from stedm.errors import UserError
from stedm.images import dihedral
from stedm.processes import own_items
from stedm.store import PatchFile, open_cache
from stedm.style.samplers import has_style, multi_patch, style_images
from stedm.training import Batch
from stedm.training_set import PatchSampler

Item = dict[str, Callable[[], np.ndarray]]
"""What reads each part of an item of a batch."""


class GeneratorBatches(Dataset[Batch]):
    """Item i is this process's share of the batch of step i, which is a function of (seed, i).

    All patients are sampled alike (see `PatchSampler`). In semi-supervised training a part of each batch is annotated
    patches with their layout, the rest unannotated ones without.

    Args:
        options: the generator.
        annotated: patch files of annotated patients.
        unannotated: likewise, of patients whose annotations (if any) must not be used.
        seed: of everything random.
        latents: folder of cached latents; None: the batch carries images.
        bank: folder of cached style embeddings (frozen encoder); None: the batch carries style images.
        layouts: folder of predicted layouts of the unannotated patches.

    Items:
        slide (B,), its number among the annotated and, behind them, the unannotated files;
        images (B, P, P, 3) uint8, or latents (B, C, h, w) float16; layout (B, P, P) uint8;
        style_images (B, n, P, P, 3) uint8 or style_embeddings (B, n, D), unless the sampler is `none`.
    """

    def __init__(
        self,
        options: config.Generator,
        annotated: Sequence[PatchFile],
        unannotated: Sequence[PatchFile],
        seed: int,
        latents: Path | None = None,
        bank: Path | None = None,
        layouts: Path | None = None,
    ):
        self.layouts = layouts
        self.options, self.seed, self.latents, self.bank = options, seed, latents, bank
        self.number = {file.slide: number for number, file in enumerate((*annotated, *unannotated))}
        semi_supervised = options.data == "semi_supervised"
        self.annotated = PatchSampler(annotated, lambda file: file.annotated & has_style(options.style, file))
        self.unannotated = PatchSampler(
            unannotated if semi_supervised else [], lambda file: has_style(options.style, file)
        )
        if not self.annotated.patients:
            raise UserError(
                "the training patients have no annotated patch with another one on its slide to show its style"
            )
        size = options.training.batch_size
        self.with_layout = options.annotated_items if self.unannotated.patients else size

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        items = []
        for position in range(self.options.training.batch_size):
            with_layout = position < self.with_layout
            file, index = (self.annotated if with_layout else self.unannotated).sample(rng)
            items.append(self.item(file, index, with_layout, rng))
        own = own_items(items)
        return {name: torch.from_numpy(np.stack([item[name]() for item in own])) for name in own[0]}

    def item(self, file: PatchFile, index: int, with_layout: bool, rng: np.random.Generator) -> Item:
        """Choose what belongs to a patch."""
        slide, number, style = file.slide, self.number[file.slide], self.options.style
        which = int(rng.integers(8))
        layout = self.layout(file, index, with_layout, rng)
        item: Item = {"layout": lambda: dihedral(layout(), which), "slide": lambda: np.array(number)}
        if self.latents is None:
            item["images"] = lambda: dihedral(file.image(index), which)
        else:
            item["latents"] = cached(self.latents, slide, "latents", (index, which))
        if style.sampler == "none":
            return item
        if self.bank is None:
            item["style_images"] = style_images(style, file, index, rng)
        else:
            rows = [cached(self.bank, slide, "embeddings", int(one)) for one in multi_patch(style, file, index, rng)]
            item["style_embeddings"] = lambda: np.stack([row() for row in rows])
        return item

    def layout(
        self, file: PatchFile, index: int, annotated: bool, rng: np.random.Generator
    ) -> Callable[[], np.ndarray]:
        """Reads (P, P) uint8: the patch's labels, those that a network predicted, or a null layout."""
        predicted = self.options.unannotated_layouts
        if annotated and rng.random() >= self.options.layout_dropout:
            return lambda: file.labels(index)
        if not annotated and self.layouts is not None and predicted is not None and rng.random() < predicted.share:
            return cached(self.layouts, file.slide, "labels", index)
        return lambda: np.full((file.patch_size,) * 2, IGNORE_INDEX, np.uint8)


def cached(folder: Path, slide: str, name: str, place: int | tuple[int, int]) -> Callable[[], np.ndarray]:
    """Reads a place of a data set that a folder of caches has of a slide."""

    def read() -> np.ndarray:
        with open_cache(folder, slide) as file:
            return file[name][place]

    return read
