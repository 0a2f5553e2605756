"""Batches of the segmentation network: which patches meet at a step, and how each is augmented.

What stands at a position of a batch is a function of (seed, step, position). Real patches come first, and synthetic
images on top of them, so that all arms with the same annotations see the same real patches at each step, and those with
the same augmentation see them changed alike: an arm with synthetic images sees more than one without, and takes longer
for a step.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stedm import config
from stedm.processes import own_items
from stedm.segmentation.augmentation import augment
from stedm.store import ImageFile, PatchFile
from stedm.training_set import PatchSampler

Place = tuple[ImageFile, int]


def synthetic_count(options: config.Network, arm: config.ArmData) -> int:
    """Synthetic images in each batch of an arm, on top of the real patches."""
    ratio = options.synthetic_ratio if arm.synthetic_ratio is None else arm.synthetic_ratio
    return round(ratio * options.training.batch_size) if arm.sources else 0


class Batches(Dataset[dict[str, Tensor]]):
    """Item i is this process's share of the batch of step i.

    `image` (B, P, P, 3) uint8 and `label` (B, P, P) uint8, 255 = ignore.

    Patients with real patches are sampled alike (see `PatchSampler`), so that one with large slides does not dominate.
    Sources of synthetic images take turns, from position to position and on into the next step; the images of one are
    sampled alike.

    Args:
        real: patch files of the slides trained on; their patches without annotated pixels are left out.
        synthetic: shards of each source's images; unused by an arm without sources.
        options: real patches in a batch, and synthetic images for each of them.
        arm: whether there are synthetic images, how many, how many for each real patch; and the augmentation.
        seed: of everything random.
    """

    def __init__(
        self,
        real: Sequence[PatchFile],
        synthetic: Sequence[Sequence[ImageFile]],
        options: config.Network,
        arm: config.ArmData,
        seed: int,
    ):
        self.real = PatchSampler(real, lambda file: file.annotated)
        self.sources = [synthetic_places(shards)[: arm.synthetic_images] for shards in synthetic]
        self.synthetic_count = synthetic_count(options, arm)
        self.real_count = options.training.batch_size
        self.steps = options.training.steps
        self.augmentation = arm.augmentation
        self.seed = seed

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        positions = own_items(list(range(self.real_count + self.synthetic_count)))
        pairs = [self.sample(step, position) for position in positions]
        images, labels = zip(*pairs, strict=True)
        return {"image": torch.from_numpy(np.stack(images)), "label": torch.from_numpy(np.stack(labels))}

    def sample(self, step: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (P, P, 3) and labels (P, P) at a position of the batch of a step."""
        rng = np.random.default_rng([self.seed, step, position])
        file, index = self.place(rng, step, position - self.real_count)
        return augment(file.image(index), file.labels(index), self.augmentation, rng)

    def place(self, rng: np.random.Generator, step: int, synthetic: int) -> Place:
        """A real patch or, from 0 on, the synthetic image of that number in the batch."""
        if synthetic < 0:
            return self.real.sample(rng)
        places = self.sources[(step * self.synthetic_count + synthetic) % len(self.sources)]
        return places[rng.integers(len(places))]


def synthetic_places(shards: Sequence[ImageFile]) -> list[Place]:
    """All images of a source, in the order of its shards."""
    return [(file, index) for file in shards for index in range(len(file))]
