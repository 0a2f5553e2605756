"""Confusion matrices and the scores from them."""

import tracemalloc

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.metrics import f1_score, get_stats, iou_score

from stedm.evaluation.metrics import confusion, dice, false_positive_rate, iou


def test_scores_are_those_of_segmentation_models_pytorch():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 3, (2, 40, 50), dtype=np.uint8)
    matrix = confusion(true, predicted, 3)
    assert matrix[1, 2] == ((true == 1) & (predicted == 2)).sum()
    tensors = [torch.from_numpy(labels.astype(np.int64))[None] for labels in (predicted, true)]
    counts = [count[0] for count in get_stats(*tensors, mode="multiclass", num_classes=3)]
    np.testing.assert_allclose(dice(matrix), f1_score(*counts), rtol=1e-6)
    np.testing.assert_allclose(iou(matrix), iou_score(*counts), rtol=1e-6)


def test_pixels_that_nobody_annotated_do_not_count():
    true = np.array([[0, 1, 255, 255]], np.uint8)
    predicted = np.array([[0, 0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(confusion(true, predicted, 2), [[1, 0], [1, 0]])


def test_large_maps_are_counted_in_little_memory():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 2, (2, 3000, 3000), dtype=np.uint8)
    true[:, ::3] = 255
    tracemalloc.start()
    matrix = confusion(true, predicted, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = [[np.sum((true == row) & (predicted == column)) for column in range(2)] for row in range(2)]
    np.testing.assert_array_equal(matrix, expected)
    assert peak < 4 * true.size  # 25 bytes for each pixel otherwise


def test_a_class_that_is_not_there_has_no_score_whatever_is_predicted_and_one_missed_has_zero():
    np.testing.assert_allclose(dice(np.array([[5, 0, 0], [3, 0, 0], [0, 0, 0]])), [10 / 13, 0, np.nan])
    np.testing.assert_allclose(iou(np.array([[5, 0, 0], [3, 0, 0], [0, 0, 0]])), [5 / 8, 0, np.nan])
    np.testing.assert_allclose(dice(np.array([[5, 0, 2], [3, 0, 0], [0, 0, 0]])), [10 / 15, 0, np.nan])
    np.testing.assert_allclose(iou(np.array([[5, 0, 2], [3, 0, 0], [0, 0, 0]])), [5 / 10, 0, np.nan])


def test_false_positives_are_a_share_of_the_other_classes_pixels():
    rng = np.random.default_rng(1)
    true, predicted = rng.integers(0, 3, (2, 500))
    rates = [np.mean(predicted[true != label] == label) for label in range(3)]
    np.testing.assert_allclose(false_positive_rate(confusion(true, predicted, 3)), rates)
    np.testing.assert_allclose(false_positive_rate(np.array([[4, 1], [0, 0]])), [np.nan, 1 / 5])


def test_an_annotated_pixel_without_prediction_is_an_error():
    with pytest.raises(ValueError, match="prediction has labels from 255 to 255, for 2 classes"):
        confusion(np.zeros((1, 1), np.uint8), np.full((1, 1), 255, np.uint8), 2)
    with pytest.raises(ValueError, match="shape"):
        confusion(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8), 2)
