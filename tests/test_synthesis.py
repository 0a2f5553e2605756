import numpy as np
import pandas as pd
import pytest
from damage import edited
from tiny import options, train

from stedm.config import Affine, Filter, Plan, PlanOptions, ShardOptions, StyleBankOptions
from stedm.errors import UserError
from stedm.shards import Shard
from stedm.store import PatchFile
from stedm.style.bank import embed_patches
from stedm.synthesis import generate_shard, plan_grid, plan_images, random_affine, warp_layout, write_manifest
from stedm.tables import PLAN

CLASSES = ["stroma", "tumour"]
KEEP_ALL = ShardOptions(class_names=CLASSES, filter=None)


def plan(study, **over):
    chosen = PlanOptions(synthesis=Plan(**({"images": 20, "shards": 2, "style_images": 2} | over)), seed=0)
    return plan_images(chosen, study / "split.csv", study / "patches", out=study / "plan.csv")


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


def test_slides_may_be_called_by_numbers(tiny_study):
    for old, new in (("A1", "001"), ("A2", "2"), ("U1", "3"), ("U2", "NA")):
        (tiny_study / f"patches/{old}.h5").rename(tiny_study / f"patches/{new}.h5")
        with edited(tiny_study / f"patches/{new}.h5") as file:
            file.attrs.update(slide=new, patient=new)
    split = (tiny_study / "split.csv").read_text()
    for old, new in (("A1", "001"), ("A2", "2"), ("U1", "3"), ("U2", "NA")):
        split = split.replace(old, new)
    (tiny_study / "split.csv").write_text(split)
    chosen = options(style={"sampler": "none", "whiten": False}, training={"steps": 1}, sampling={"steps": 1})
    generator = train(tiny_study, chosen)
    plan(tiny_study, shards=1)
    plan_grid(tiny_study / "plan.csv", out=tiny_study / "grid.csv", rows=2, columns=2)
    for planned, count in (("plan.csv", 20), ("grid.csv", 4)):
        out = tiny_study / f"{planned}.h5"
        generate_shard(KEEP_ALL, generator, tiny_study / planned, 0, tiny_study / "patches", out=out)
        assert len(Shard(out)) == count


def test_without_transform_the_layout_is_itself_or_its_mirror_image():
    none = Affine(scale=(1, 1), rotation=0, shear=0, translation=0)
    layout = np.random.default_rng(0).integers(0, 3, (32, 32), np.uint8)
    seen = {warp_layout(layout, random_affine(none, 32, np.random.default_rng(seed))).tobytes() for seed in range(10)}
    assert seen == {layout.tobytes(), layout[:, ::-1].tobytes()}


def test_a_layout_that_is_scaled_up_covers_more():
    layout = np.zeros((64, 64), np.uint8)
    layout[24:40, 24:40] = 1
    options = Affine(scale=(1.5, 1.5), rotation=180, shear=0, translation=0)
    area = [warp_layout(layout, random_affine(options, 64, np.random.default_rng(seed))).sum() for seed in range(10)]
    np.testing.assert_allclose(area, 1.5**2 * 256, rtol=0.06)


def test_unannotated_pixels_stay_unannotated():
    layout = np.full((32, 32), 255, np.uint8)
    layout[:, :16] = 1
    drawn = warp_layout(layout, random_affine(Affine(), 32, np.random.default_rng(0)))
    assert set(np.unique(drawn)) <= {1, 255}


@pytest.fixture
def generated(tiny_study):
    chosen = options(training={"steps": 1}, sampling={"batch_size": 4})
    generator = train(tiny_study, chosen)
    bank = tiny_study / "bank"
    bank_options = StyleBankOptions(encoder=chosen.style.encoder)
    embed_patches(bank_options, tiny_study / "split.csv", tiny_study / "patches", out=bank, generator=generator)
    plan(tiny_study)

    def generate(shard, out, chosen=None, agreement=None):
        path = tiny_study / out
        generate_shard(
            ShardOptions(class_names=CLASSES, filter=chosen),
            generator,
            tiny_study / "plan.csv",
            shard,
            tiny_study / "patches",
            out=path,
            style_bank=bank,
            agreement=agreement,
        )
        return Shard(path)

    return generate


def test_a_shard_generated_again_gives_the_same_images(generated):
    first, again, other = generated(1, "a.h5"), generated(1, "b.h5"), generated(0, "c.h5")
    assert len(first) == 10
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_a_generated_image_carries_its_layout_and_its_number(tiny_study, generated):
    file = generated(1, "a.h5")
    manifest = pd.read_csv(tiny_study / "plan.csv")
    row = manifest[manifest["shard"] == 1].iloc[3]
    source = PatchFile(tiny_study / f"patches/{row['layout_slide']}.h5").labels(row["layout_patch"])
    matrix = row[["a", "b", "c", "d", "e", "f"]].to_numpy(float).reshape(2, 3)
    np.testing.assert_array_equal(file.labels(3), warp_layout(source, matrix))
    assert file.image_id.tolist() == list(range(10, 20))
    assert set(file.redraws) == {0}


def test_images_that_never_agree_with_their_layout_are_left_out_and_counted(tiny_study, generated):
    """A network that agrees with images at its second look, or, where the layout starts with tumour, at none."""
    plain = generated(0, "plain.h5")
    looks = {}

    def agreement(images, layouts):
        values = []
        for image, layout in zip(images, layouts, strict=True):
            looks.setdefault(layout.tobytes(), []).append(image.tobytes())
            values.append(0.4 if len(looks[layout.tobytes()]) == 1 or layout[0, 0] == 1 else 0.5)
        return np.array(values)

    never = {int(image) for image, layout in zip(plain.image_id, labels(plain), strict=True) if layout[0, 0] == 1}
    assert 0 < len(never) < 10
    found = generated(0, "0.h5", Filter(arm="real", iou=0.5, redraws=2), agreement)
    assert set(found.image_id) == set(range(10)) - never
    assert set(found.redraws) == {1}  # generated again once
    assert {len(images) for images in looks.values()} == {2, 3}
    assert all(len(set(images)) == len(images) for images in looks.values())  # from other noise each time

    shards = [tiny_study / "0.h5", generated(1, "1.h5").path]
    manifest = write_manifest(tiny_study / "plan.csv", shards, out=tiny_study / "manifest.csv").set_index("image")
    planned = PLAN.read(tiny_study / "plan.csv").set_index("image")
    assert set(manifest.index[~manifest["kept"]]) == never
    assert manifest["redraws"].tolist() == [pd.NA if n in never else int(n < 10) for n in range(20)]
    assert (manifest["seed"] - planned["seed"]).tolist() == [int(n < 10 and n not in never) for n in range(20)]
    same = planned.columns.drop("seed")
    pd.testing.assert_frame_equal(manifest[same], planned[same])


def labels(file):
    return [file.labels(index) for index in range(len(file))]


def test_images_of_which_nothing_can_be_told_are_kept(generated):
    unknown = lambda images, layouts: np.full(len(images), np.nan)  # noqa: E731
    assert len(generated(0, "0.h5", Filter(arm="real"), unknown)) == 10


def test_a_filter_that_keeps_nothing_and_shards_of_another_plan_are_errors(tiny_study, generated):
    generated(0, "0.h5", Filter(arm="real", redraws=0), lambda images, layouts: np.zeros(len(images)))
    with pytest.raises(UserError, match=r"plan\.csv: not one image agrees .* synthesis\.filter\.iou"):
        write_manifest(tiny_study / "plan.csv", [tiny_study / "0.h5"], out=tiny_study / "manifest.csv")
    other = generated(1, "1.h5")
    plan(tiny_study, images=5)
    with pytest.raises(UserError, match=r"plan\.csv: has not the images of"):
        write_manifest(tiny_study / "plan.csv", [other.path], out=tiny_study / "manifest.csv")
