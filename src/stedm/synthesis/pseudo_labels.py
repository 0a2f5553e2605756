"""Pseudo-labels: unannotated patches as they are, labelled by a segmentation network (Lee 2013)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from stedm.config import IGNORE_INDEX
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.synthesis.plan import Row
from stedm.synthesis.shard import batches


def pseudo_labels(
    rows: Sequence[Row],
    files: Mapping[str, PatchFile],
    *,
    predict: Callable[[np.ndarray], np.ndarray],
    thresholds: Sequence[float],
) -> Iterator[Generated]:
    """The patch of each row with the labels that a network gives it; a patch without any label is left out.

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
        predict: probabilities (B, C, P, P) of images (B, P, P, 3) uint8.
        thresholds: (C,) least probability of each class.
    """
    for some in batches(rows):
        images = np.stack([files[row["layout_slide"]].image(int(row["layout_patch"])) for row in some])
        for row, image, labels in zip(some, images, confident(predict(images), thresholds), strict=True):
            if (labels != IGNORE_INDEX).any():
                yield Generated(int(row["image"]), image, labels, 0)


def confident(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """(B, P, P) uint8 most probable classes of probabilities (B, C, P, P), 255 where they are below the threshold."""
    labels = probabilities.argmax(1)
    unsure = probabilities.max(1) < np.asarray(thresholds)[labels]
    return np.where(unsure, IGNORE_INDEX, labels).astype(np.uint8)
