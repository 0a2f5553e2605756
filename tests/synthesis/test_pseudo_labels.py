"""Pseudo-labels of a network whose answers are known."""

from functools import partial

import numpy as np
import pytest
import tiny
from tiny import plan

from stedm.config import PseudoLabels
from stedm.errors import UserError
from stedm.store import PatchFile
from stedm.synthesis.pseudo_labels import confident, pseudo_labels
from stedm.synthesis.shard import write_manifest

SOURCE = PseudoLabels(kind="pseudo_labels", arm="real", confidence={"tumour": 0.65, "stroma": 0.8})


def sure_of_rows(images):
    """Stroma with 0.9, 0.7 and 0.6 in rows from 0, 8 and 16; tumour with 0.7 from 24; nothing sure in U2."""
    stroma = np.repeat([0.9, 0.7, 0.6, 0.3], 8)[None, :, None].repeat(len(images), 0).repeat(32, 2)
    stroma = np.where(images.mean((1, 2, 3))[:, None, None] > 140, 0.55, stroma)
    return np.stack([stroma, 1 - stroma], 1)


def label(study, thresholds):
    plan(study, kind="pseudo_labels", shards=1)
    return tiny.shard(study, partial(pseudo_labels, predict=sure_of_rows, thresholds=thresholds), SOURCE)


def test_pixels_have_the_networks_class_where_it_is_as_confident_as_asked_of_this_class():
    probabilities = np.array([[0.9, 0.7, 0.4, 0.15], [0.1, 0.3, 0.6, 0.85]]).reshape(1, 2, 1, 4)
    assert confident(probabilities, [0.8, 0.8]).tolist() == [[[0, 255, 255, 1]]]
    assert confident(probabilities, [0.8, 0.5]).tolist() == [[[0, 255, 1, 1]]]
    assert confident(probabilities, [0.0, 0.9]).tolist() == [[[0, 0, 255, 255]]]


def test_patches_are_as_they_are_and_those_without_any_label_are_left_out(tiny_study):
    made = label(tiny_study, SOURCE.thresholds(tiny.CLASSES))
    table = write_manifest(tiny_study / "plan.csv", [made.path], out=tiny_study / "manifest.csv").set_index("image")
    assert set(table.loc[table["kept"], "layout_slide"]) == {"U1"}
    assert set(table.loc[~table["kept"], "layout_slide"]) == {"U2"}
    assert len(made) == 10
    for index, image_id in enumerate(made.image_id):
        patch = PatchFile(tiny_study / "patches/U1.h5").image(table.loc[image_id, "layout_patch"])
        np.testing.assert_array_equal(made.image(index), patch)
        np.testing.assert_array_equal(made.labels(index)[:, 0], np.repeat([0, 255, 255, 1], 8))


def test_a_confidence_that_no_label_has_is_an_error(tiny_study):
    made = label(tiny_study, [0.99, 0.99])
    with pytest.raises(UserError, match=r"plan\.csv: not one image was kept.* lower the source's confidence"):
        write_manifest(tiny_study / "plan.csv", [made.path], out=tiny_study / "manifest.csv")
