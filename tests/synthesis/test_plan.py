import numpy as np
import pandas as pd
import pytest
from damage import edited
from tiny import plan

from stedm.config import Affine
from stedm.synthesis.plan import IDENTITY, matrix_of, random_affine, warp


@pytest.mark.parametrize("pairing", ["group", "cycle"])
def test_every_unannotated_patient_is_generated_equally_often_and_no_other(tiny_study, pairing):
    manifest = plan(tiny_study, pairing=pairing)
    assert manifest["style_slide"].value_counts().to_dict() == {"U1": 10, "U2": 10}
    assert set(manifest["layout_slide"]) == {"A1", "A2"}


def test_at_random_patients_are_sampled_with_equal_chances(tiny_study):
    counts = plan(tiny_study, pairing="random", images=400)["style_slide"].value_counts()
    assert counts.sum() == 400
    assert 0 < abs(counts["U1"] - 200) < 3 * 10  # three deviations of the binomial distribution; not in turns


def test_layouts_of_a_rare_class_are_planned_as_often_as_those_of_the_other(tiny_study):
    """One patch of sixteen of each annotated slide has tumour."""
    for slide in ("A1", "A2"):
        with edited(tiny_study / f"patches/{slide}.h5") as file:
            file["class_fractions"][:] = [1, 0]
            file["class_fractions"][5] = [0.5, 0.5]
    manifest = plan(tiny_study, images=40)
    assert manifest["layout_class"].value_counts().to_dict() == {"stroma": 20, "tumour": 20}
    assert set(manifest.query("layout_class == 'tumour'")["layout_patch"]) == {5}


@pytest.mark.parametrize("pairing", ["group", "cycle", "random"])
def test_a_plan_is_the_same_each_time_and_more_images_leave_the_first_alone(tiny_study, pairing):
    first, again, more = (plan(tiny_study, pairing=pairing, images=images) for images in (20, 20, 30))
    assert (first["pairing"] == pairing).all()
    pd.testing.assert_frame_equal(first, again)
    same = [name for name in first if name != "shard"]
    pd.testing.assert_frame_equal(first[same], more[same].head(20))


def test_shards_are_of_equal_size(tiny_study):
    assert plan(tiny_study, shards=4)["shard"].value_counts().to_dict() == {0: 5, 1: 5, 2: 5, 3: 5}


def regroup(study, **groups):
    """Give slides of the tiny study a group."""
    for slide, group in groups.items():
        with edited(study / f"patches/{slide}.h5") as file:
            file.attrs["group"] = group


def test_layouts_meet_styles_of_their_group(tiny_study):
    regroup(tiny_study, A1="x", A2="y", U1="x", U2="y")
    manifest = plan(tiny_study)
    assert set(zip(manifest["layout_slide"], manifest["style_slide"], strict=True)) == {("A1", "U1"), ("A2", "U2")}
    for pairing in ("cycle", "random"):
        mixed = plan(tiny_study, pairing=pairing, images=40)
        assert len(set(zip(mixed["layout_slide"], mixed["style_slide"], strict=True))) == 4


def test_a_group_without_layouts_takes_those_of_any(tiny_study):
    regroup(tiny_study, U1="z")
    assert set(plan(tiny_study).query("style_slide == 'U1'")["layout_slide"]) == {"A1", "A2"}


def test_a_group_whose_layouts_are_hardly_annotated_takes_those_of_any(tiny_study):
    regroup(tiny_study, A1="x", A2="y", U1="x", U2="y")
    with edited(tiny_study / "patches/A1.h5") as file:
        file["class_fractions"][:] = 0.1
    assert set(plan(tiny_study)["layout_slide"]) == {"A2"}


def test_without_transform_the_layout_is_itself_or_its_mirror_image():
    none = Affine(scale=(1, 1), rotation=0, shear=0, translation=0)
    layout = np.random.default_rng(0).integers(0, 3, (32, 32), np.uint8)
    seen = {warp(layout, random_affine(none, 32, np.random.default_rng(seed))).tobytes() for seed in range(10)}
    assert seen == {layout.tobytes(), layout[:, ::-1].tobytes()}


def test_a_layout_that_is_scaled_up_covers_more():
    layout = np.zeros((64, 64), np.uint8)
    layout[24:40, 24:40] = 1
    options = Affine(scale=(1.5, 1.5), rotation=180, shear=0, translation=0)
    area = [warp(layout, random_affine(options, 64, np.random.default_rng(seed))).sum() for seed in range(10)]
    np.testing.assert_allclose(area, 1.5**2 * 256, rtol=0.06)


def test_unannotated_pixels_stay_unannotated():
    layout = np.full((32, 32), 255, np.uint8)
    layout[:, :16] = 1
    drawn = warp(layout, random_affine(Affine(), 32, np.random.default_rng(0)))
    assert set(np.unique(drawn)) <= {1, 255}


def test_patches_to_label_are_of_unannotated_patients_in_turn_as_they_are_and_none_twice(tiny_study):
    table = plan(tiny_study, kind="pseudo_labels", images=32)
    assert table["layout_slide"].value_counts().to_dict() == {"U1": 16, "U2": 16}  # all patches that there are
    assert not table.duplicated(["layout_slide", "layout_patch"]).any()
    assert (table["style_slide"] == table["layout_slide"]).all()
    assert (table["style_patches"] == table["layout_patch"].astype(str)).all()
    assert all((matrix_of(row) == IDENTITY).all() for _, row in table.iterrows())
    assert set(table["layout_slide"].head(2)) == {"U1", "U2"}


def test_where_more_are_asked_patches_to_label_come_again(tiny_study):
    table = plan(tiny_study, kind="pseudo_labels", images=40)
    assert table.value_counts(["layout_slide", "layout_patch"]).value_counts().to_dict() == {1: 24, 2: 8}
