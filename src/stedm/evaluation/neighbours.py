"""Are generated images copies of training patches, and do they differ from each other as real patches do?

Distances are cosine distances of features, in [0, 2]; 0 means the same direction.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from stedm.store import PatchFile
from stedm.style.samplers import overlapping, side_level0

CLOSE = 0.05
"""Quantile of the distances between real patches below which a distance counts as close."""
CHUNK = 1024


def unit(features: np.ndarray) -> np.ndarray:
    """Features (N, D), normalised to length 1."""
    return features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)


def closest_patches(
    generated: np.ndarray, styles: Sequence[str], files: Sequence[PatchFile], known: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """The training patch that is closest to each generated image, and how close real patches are to each other.

    Copies are closer to a training patch than real patches are. A real patch is compared with all training patches
    that share no pixel with it, including those of its own slide.

    Args:
        generated: (N, D) features of the generated images.
        styles: their style slides.
        files: patch files of the training slides.
        known: (n, D) features of their patches, by slide.

    Returns:
        closest_slide, closest_patch, closest_distance; close_to_training, whether this distance is below the 5%
        quantile of real patches; real_closest_distance and real_close_to_training, the means over the real patches of
        the style's slide.
    """
    every = unit(np.concatenate([known[file.slide] for file in files]))
    slides = np.concatenate([[file.slide] * len(file) for file in files])
    numbers = np.concatenate([np.arange(len(file)) for file in files])
    distances, places = closest(unit(generated), every)
    real = pd.Series(np.concatenate(real_distances(files, every)))
    threshold = real.quantile(CLOSE)
    known_slides = pd.DataFrame({"distance": real, "close": real < threshold}).groupby(slides).mean()
    of_style = known_slides.reindex(pd.Index(styles))
    return pd.DataFrame(
        {
            "closest_slide": slides[places],
            "closest_patch": numbers[places],
            "closest_distance": distances,
            "close_to_training": (distances < threshold).astype(float),
            "real_closest_distance": of_style["distance"].to_numpy(),
            "real_close_to_training": of_style["close"].to_numpy(),
        }
    )


def closest(queries: np.ndarray, every: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) cosine distances to the closest of (M, D) unit features, and its index."""
    distances, places = [], []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ every.T
        distances.append(1 - similarity.max(1))
        places.append(similarity.argmax(1))
    return np.concatenate(distances), np.concatenate(places)


def real_distances(files: Sequence[PatchFile], every: np.ndarray) -> list[np.ndarray]:
    """For each slide, the (n,) distances of its patches to the closest patch that shares no pixel.

    Args:
        files: patch files of the slides.
        every: (M, D) unit features of their patches, slide by slide.
    """
    found = []
    start = 0
    for file in files:
        own = slice(start, start + len(file))
        similarity = every[own] @ every.T
        for index in range(len(file)):
            similarity[index, own][overlapping(file.coords, index, side_level0(file))] = -np.inf
        found.append(1 - similarity.max(1, initial=-1))
        start += len(file)
    return found


def diversity(generated: np.ndarray, styles: Sequence[str], known: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """How far images of one style are from each other, and the same for real patches of the style's slide.

    Args:
        generated: (N, D) features of the generated images.
        styles: their style slides.
        known: (n, D) features of real patches, by slide.

    Returns:
        diversity, the mean distance of an image to the others of its style; real_diversity. NaN for a single image.
    """
    real = pd.Series({slide: mean_distances(features).mean() for slide, features in known.items()})
    names = pd.Series(list(styles))
    own = np.full(len(names), np.nan)
    for places in names.groupby(names).indices.values():
        own[places] = mean_distances(generated[places])
    return pd.DataFrame({"diversity": own, "real_diversity": real.reindex(names).to_numpy()})


def mean_distances(features: np.ndarray) -> np.ndarray:
    """(n,) mean cosine distance of each of (n, D) features to the others; NaN for a single one."""
    directions = unit(features)
    others = len(features) - 1
    if not others:
        return np.full(1, np.nan)
    return 1 - (directions @ directions.sum(0) - 1) / others
