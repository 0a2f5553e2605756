"""Predictions of overlapping windows put together.

Windows are weighted by a Gaussian, as nnU-Net does (Isensee et al. 2021), so that a pixel depends most on the windows
that see most around it. Work goes from top to bottom, so that memory does not grow with height, and in three threads:
one reads what comes next, one predicts, and the caller's adds up and goes on with what is done.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from stedm.ahead import ahead

LEAST_WEIGHT = 1e-3
READ_ROWS = 1024
"""About so many rows are read at once, so that few are read twice and few of the slide's tiles decoded twice."""

Wanted = Callable[[np.ndarray], np.ndarray]
Read = Callable[[int, int, int, int], tuple[np.ndarray, np.ndarray]]
Predict = Callable[[np.ndarray], np.ndarray]
Corner = tuple[int, int]
T = TypeVar("T")


def stitch(
    shape: tuple[int, int],
    wanted: Wanted,
    weights: np.ndarray,
    overlap: float,
    batch_size: int,
    read: Read,
    predict: Predict,
) -> Iterator[tuple[int, np.ndarray]]:
    """Mean of overlapping windows' predictions, weighted, band by band from the top.

    Args:
        shape: H and W of what is predicted, at least P.
        wanted: which windows to predict, (N,) bool, of their upper left corners (N, 2) x, y.
        weights: (P, P) weight of each pixel of a window, > 0.
        overlap: of neighbouring windows, as a share of P in [0, 1).
        batch_size: most windows predicted at a time.
        read: image (h, w, 3) uint8 at left, top, w, h, and which of its pixels are broken, (h, w) bool: windows with
            any are passed over. Called in another thread.
        predict: probabilities (B, C, P, P) of images (B, P, P, 3) uint8; called in another thread.

    Yields:
        Row that the band starts at and its probabilities (C, h, W) float32, NaN where no window lay. The bands are
        disjoint; rows in none of them were seen by no window.
    """
    size = len(weights)
    top, sums, total = 0, np.zeros((0, 0, shape[1]), np.float32), np.zeros((0, shape[1]), np.float32)
    batches = ahead(batched(windows(shape, wanted, size, overlap, read), batch_size))
    for corners, predicted in ahead(predictions(batches, predict)):
        start, end = corners[0][1], corners[-1][1] + size  # no later window reaches above the first of these
        if start > top:
            if done := min(start - top, len(total)):
                yield top, mean(sums[:, :done], total[:done])
            top, sums, total = start, sums[:, done:], total[done:]
        if (missing := end - top - len(total)) > 0:
            total = np.pad(total, ((0, missing), (0, 0)))
            sums = np.pad(sums, ((0, predicted.shape[1] - len(sums)), (0, missing), (0, 0)))
        for (x, y), probabilities in zip(corners, predicted, strict=True):
            sums[:, y - top : y - top + size, x : x + size] += probabilities * weights
            total[y - top : y - top + size, x : x + size] += weights
    if len(total):
        yield top, mean(sums, total)


def windows(
    shape: tuple[int, int], wanted: Wanted, size: int, overlap: float, read: Read
) -> Iterator[tuple[Corner, np.ndarray]]:
    """Corner x, y and image (P, P, 3) of the wanted windows that can be read, row by row."""
    rows, columns = (window_positions(length, size, overlap) for length in shape)
    per_band = max(1, round(READ_ROWS / (size * (1 - overlap))))
    for start in range(0, len(rows), per_band):
        grid = np.stack(np.meshgrid(columns, rows[start : start + per_band]), axis=-1).reshape(-1, 2)
        corners = grid[wanted(grid)]
        if not len(corners):
            continue
        left, top = corners.min(0).tolist()
        right, bottom = (corners.max(0) + size).tolist()
        image, broken = read(left, top, right - left, bottom - top)
        for x, y in corners.tolist():
            window = slice(y - top, y - top + size), slice(x - left, x - left + size)
            if not broken[window].any():
                yield (x, y), image[window]


def predictions(
    batches: Iterable[list[tuple[Corner, np.ndarray]]], predict: Predict
) -> Iterator[tuple[list[Corner], np.ndarray]]:
    """Corners and probabilities (B, C, P, P) of each batch of windows."""
    for batch in batches:
        corners, images = zip(*batch, strict=True)
        yield list(corners), predict(np.stack(images))


def mean(sums: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Weighted mean (C, h, W), NaN where the weights' total (h, W) is 0."""
    return sums / np.where(total > 0, total, np.float32(np.nan))


def batched(items: Iterator[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last of what is left."""
    while batch := list(islice(items, size)):
        yield batch


def window_positions(length: int, size: int, overlap: float) -> list[int]:
    """Where windows start: evenly spaced from the first pixel to the last, overlapping at least by `overlap`."""
    step = max(1.0, size * (1 - overlap))
    count = math.ceil((length - size) / step) + 1
    return [int(position) for position in np.linspace(0, length - size, count).round()]


def gaussian_weights(size: int) -> np.ndarray:
    """(size, size) float32 in [0.001, 1]: a Gaussian of deviation size/8 about the window's centre."""
    distance = np.arange(size) - (size - 1) / 2
    profile = np.exp(-0.5 * (distance / (size / 8)) ** 2)
    weights = np.outer(profile, profile)
    return np.maximum(weights / weights.max(), LEAST_WEIGHT).astype(np.float32)
