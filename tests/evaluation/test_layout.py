"""Layouts recognised by networks whose answers are known."""

import numpy as np

from stedm.evaluation import layout
from stedm.evaluation.layout import layout_overlap, network_agreement

NAMES = ["stroma", "tumour"]


def test_a_class_that_is_not_in_the_layout_has_no_overlap_of_its_own():
    layouts = np.zeros((1, 4, 4), np.uint8)
    seen = np.zeros((1, 2, 4, 4), np.float32)
    seen[0, 0] = 1
    seen[0, 1, 0, 0] = 2  # one of sixteen pixels seen as tumour
    found = layout_overlap(np.zeros((1, 4, 4, 3), np.uint8), layouts, NAMES, lambda images: seen, 8)
    assert found["iou_stroma"].tolist() == found["layout_iou"].tolist() == [15 / 16]
    assert found["iou_tumour"].isna().all()


def test_the_agreement_is_the_mean_over_the_layout_s_classes(monkeypatch):
    """The network sees tumour in the right half; the layouts have it in the right quarter, and nowhere."""
    seen = np.zeros((2, 2, 4, 4), np.float32)
    seen[:, 0, :, :2] = seen[:, 1, :, 2:] = 1
    monkeypatch.setattr(layout, "load_network", lambda folder, _: folder)
    monkeypatch.setattr(layout, "predict_probabilities", lambda network, images: seen)
    layouts = np.zeros((2, 4, 4), np.uint8)
    layouts[0, :, 3] = 1
    found = network_agreement(None)(np.zeros((2, 4, 4, 3), np.uint8), layouts)
    np.testing.assert_allclose(found, [(8 / 12 + 4 / 8) / 2, 8 / 16])
