"""Annotation files as each program writes them, of a slide of 100 × 80 px."""

import numpy as np
import pytest


@pytest.fixture
def expected():
    return paint_squares


def paint_squares(shape, *squares):
    """Labels with squares (label, x0, y0, x1, y1) painted one after the other, 255 elsewhere."""
    labels = np.full(shape, 255, np.uint8)
    for label, x0, y0, x1, y1 in squares:
        labels[y0:y1, x0:x1] = label
    return labels
