"""What a generator learns from: targets with layouts, and style sets of the same slide."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from stedm import config
from stedm.config import IGNORE_INDEX
from stedm.errors import UserError
from stedm.images import dihedral, to_images
from stedm.store import PatchFile, open_cache
from stedm.style.samplers import has_style, multi_patch, style_images
from stedm.training import Batch
from stedm.training_set import PatchSampler


class GeneratorBatches(Dataset[Batch]):
    """Item i is the whole batch of step i, a function of (seed, i).

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
        images (B, 3, P, P) in [-1, 1], or latents (B, C, h, w); layout (B, P, P) uint8;
        style_images (B, n, 3, P, P) or style_embeddings (B, n, D), unless the sampler is `none`.
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
        return {name: torch.stack([item[name] for item in items]) for name in items[0]}

    def item(self, file: PatchFile, index: int, with_layout: bool, rng: np.random.Generator) -> Batch:
        which = int(rng.integers(8))
        layout = dihedral(self.layout(file, index, with_layout, rng), which)
        item = {
            "layout": torch.from_numpy(np.ascontiguousarray(layout)),
            "slide": torch.tensor(self.number[file.slide]),
        }
        if self.latents is None:
            item["images"] = to_images(dihedral(file.image(index), which))
        else:
            with open_cache(self.latents, file.slide) as latents:
                item["latents"] = torch.from_numpy(latents["latents"][index, which]).float()
        style = self.options.style
        if style.sampler == "none":
            return item
        if self.bank is None:
            item["style_images"] = to_images(style_images(style, file, index, rng))
        else:
            with open_cache(self.bank, file.slide) as bank:
                chosen = multi_patch(style, file, index, rng)
                item["style_embeddings"] = torch.from_numpy(np.stack([bank["embeddings"][int(one)] for one in chosen]))
        return item

    def layout(self, file: PatchFile, index: int, annotated: bool, rng: np.random.Generator) -> np.ndarray:
        """(P, P) uint8: the patch's labels, those that a network predicted, or a null layout."""
        predicted = self.options.unannotated_layouts
        if annotated and rng.random() >= self.options.layout_dropout:
            return file.labels(index)
        if not annotated and self.layouts is not None and predicted is not None and rng.random() < predicted.share:
            with open_cache(self.layouts, file.slide) as layouts:
                return layouts["labels"][index]
        return np.full((file.patch_size,) * 2, IGNORE_INDEX, np.uint8)
