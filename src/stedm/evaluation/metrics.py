"""Scores from confusion matrices, whose sums over slides are the patients' matrices."""

import numpy as np

from stedm.config import IGNORE_INDEX

CHUNK = 1 << 20
"""Pixels counted at a time: counting takes 25 bytes for each."""


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrix of label maps; pixels whose truth is 255 do not count.

    Args:
        true: labels in [0, classes) or 255.
        predicted: same shape, labels in [0, classes) wherever the truth is not 255.
        classes: number of classes.

    Returns:
        (classes, classes) int64, rows the truth, columns the prediction.

    Raises:
        ValueError: shapes differ, or there are other labels.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"truth has shape {true.shape}, prediction {predicted.shape}")
    true, predicted = true.reshape(-1), predicted.reshape(-1)
    counts = np.zeros(classes**2, np.int64)
    for start in range(0, true.size, CHUNK):
        some = true[start : start + CHUNK]
        known = some != IGNORE_INDEX
        rows, columns = some[known].astype(np.int64), predicted[start : start + CHUNK][known].astype(np.int64)
        for name, values in (("truth", rows), ("prediction", columns)):
            if values.size and not (values.min() >= 0 and values.max() < classes):
                raise ValueError(f"{name} has labels from {values.min()} to {values.max()}, for {classes} classes")
        counts += np.bincount(rows * classes + columns, minlength=classes**2)
    return counts.reshape(classes, classes)


def dice(matrix: np.ndarray) -> np.ndarray:
    """(C,) Dice coefficient 2·TP / (2·TP + FP + FN) of each class; NaN for one that is not in the truth.

    Whatever is predicted: so it is the same for all that is compared on one truth (as in MONAI's `ignore_empty`). What
    is seen of such a class is in `false_positive_rate`.
    """
    hits = np.diag(matrix)
    return ratio(2 * hits, matrix.sum(0) + matrix.sum(1), present(matrix))


def iou(matrix: np.ndarray) -> np.ndarray:
    """(C,) intersection over union TP / (TP + FP + FN) of each class; NaN for one that is not in the truth."""
    hits = np.diag(matrix)
    return ratio(hits, matrix.sum(0) + matrix.sum(1) - hits, present(matrix))


def false_positive_rate(matrix: np.ndarray) -> np.ndarray:
    """(C,) share of the other classes' pixels that are taken for each class; NaN where there are no others."""
    others = matrix.sum() - matrix.sum(1)
    return ratio(matrix.sum(0) - np.diag(matrix), others, others > 0)


def present(matrix: np.ndarray) -> np.ndarray:
    """(C,) whether each class is in the truth."""
    return matrix.sum(1) > 0


def ratio(part: np.ndarray, whole: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=where)
