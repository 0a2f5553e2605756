"""Predictions of overlapping windows put together.

Windows are weighted by a Gaussian, as nnU-Net does (Isensee et al. 2021), so that a pixel is judged most by the windows
that see most around it. Work goes from top to bottom in bands of windows, so that memory does not grow with height.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

LEAST_WEIGHT = 1e-3

Read = Callable[[int, int, int, int], np.ndarray]
Predict = Callable[[np.ndarray], np.ndarray]


def stitch(
    wanted: np.ndarray, weights: np.ndarray, overlap: float, batch_size: int, read: Read, predict: Predict
) -> Iterator[tuple[int, np.ndarray]]:
    """Mean of overlapping windows' predictions, weighted, band by band from the top.

    Args:
        wanted: (H, W) bool; windows without a wanted pixel are passed over. H and W are at least P.
        weights: (P, P) weight of each pixel of a window, > 0.
        overlap: of neighbouring windows, as a share of P in [0, 1).
        batch_size: most windows predicted at a time.
        read: image (h, w, 3) uint8 at left, top, w, h.
        predict: probabilities (B, C, P, P) of images (B, P, P, 3) uint8.

    Yields:
        Row that the band starts at and its probabilities (C, h, W) float32, NaN where no window lay. The bands are
        disjoint; rows in none of them were seen by no window.
    """
    size = len(weights)
    height, width = wanted.shape
    columns = window_positions(width, size, overlap)
    top, sums, total = 0, np.zeros((0, 0, width), np.float32), np.zeros((0, width), np.float32)
    for rows, following in bands(window_positions(height, size, overlap), height, len(columns), batch_size):
        windows = [(y, x) for y in rows for x in columns if wanted[y : y + size, x : x + size].any()]
        missing = ((0, rows[-1] + size - top - len(total)), (0, 0))
        total = np.pad(total, missing)
        sums = np.pad(sums, ((0, 0), *missing))
        if windows:
            left, right = min(x for _, x in windows), max(x for _, x in windows) + size
            image = read(left, rows[0], right - left, rows[-1] + size - rows[0])
            for some in batches(windows, batch_size):
                images = np.stack([image[y - rows[0] :, x - left :][:size, :size] for y, x in some])
                for (y, x), probabilities in zip(some, predict(images), strict=True):
                    if not len(sums):
                        sums = np.zeros((len(probabilities), *total.shape), np.float32)
                    sums[:, y - top : y - top + size, x : x + size] += probabilities * weights
                    total[y - top : y - top + size, x : x + size] += weights
        done = following - top
        if len(sums):
            seen = np.where(total[:done] > 0, total[:done], np.nan)
            yield top, sums[:, :done] / seen
        sums, total, top = sums[:, done:], total[done:], following


def window_positions(length: int, size: int, overlap: float) -> list[int]:
    """Where windows start: evenly spaced from the first pixel to the last, overlapping at least by `overlap`."""
    step = max(1.0, size * (1 - overlap))
    count = math.ceil((length - size) / step) + 1
    return [int(position) for position in np.linspace(0, length - size, count).round()]


def bands(rows: list[int], height: int, columns: int, batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Rows of windows grouped so that a group fills a batch, each with the row that the next group starts at."""
    per_band = max(1, batch_size // columns)
    for start in range(0, len(rows), per_band):
        rest = rows[start + per_band :]
        yield rows[start : start + per_band], rest[0] if rest else height


def batches(items: Sequence[tuple[int, int]], size: int) -> Iterator[Sequence[tuple[int, int]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def gaussian_weights(size: int) -> np.ndarray:
    """(size, size) float32 in [0.001, 1]: a Gaussian of deviation size/8 about the window's centre."""
    distance = np.arange(size) - (size - 1) / 2
    profile = np.exp(-0.5 * (distance / (size / 8)) ** 2)
    weights = np.outer(profile, profile)
    return np.maximum(weights / weights.max(), LEAST_WEIGHT).astype(np.float32)
