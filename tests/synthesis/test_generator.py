import numpy as np
import pandas as pd
import pytest
import tiny
from damage import edited
from tiny import options, plan, train

from stedm.config import Filter, StyleBankOptions
from stedm.errors import UserError
from stedm.store import PatchFile
from stedm.style.bank import embed_patches
from stedm.synthesis.plan import plan_grid, warp
from stedm.synthesis.shard import write_manifest
from stedm.tables import PLAN


def test_slides_may_be_called_by_numbers(tiny_study):
    for old, new in (("A1", "001"), ("A2", "2"), ("U1", "3"), ("U2", "NA")):
        (tiny_study / f"patches/{old}.h5").rename(tiny_study / f"patches/{new}.h5")
        with edited(tiny_study / f"patches/{new}.h5") as file:
            file.attrs.update(slide=new, patient=new)
    split = (tiny_study / "split.csv").read_text()
    for old, new in (("A1", "001"), ("A2", "2"), ("U1", "3"), ("U2", "NA")):
        split = split.replace(old, new)
    (tiny_study / "split.csv").write_text(split)
    chosen = options(style={"sampler": "none", "canonical": False}, training={"steps": 1}, sampling={"steps": 1})
    generator = train(tiny_study, chosen)
    plan(tiny_study, shards=1)
    plan_grid(tiny_study / "plan.csv", out=tiny_study / "grid.csv", rows=2, columns=2)
    for planned, count in (("plan.csv", 20), ("grid.csv", 4)):
        assert len(tiny.generated(tiny_study, generator, plan=planned)) == count


@pytest.fixture
def generated(tiny_study):
    chosen = options(training={"steps": 1}, sampling={"batch_size": 4})
    generator = train(tiny_study, chosen)
    bank = tiny_study / "bank"
    embed_patches(
        StyleBankOptions(generator_name="styled", encoder=chosen.style.encoder, canonical=True),
        tiny_study / "split.csv",
        tiny_study / "patches",
        out=bank,
        generator=generator,
    )
    plan(tiny_study)

    return lambda number, out, chosen=None, agreement=None: tiny.generated(
        tiny_study, generator, bank, chosen, agreement, number=number, out=out
    )


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
    np.testing.assert_array_equal(file.labels(3), warp(source, matrix))
    assert file.image_id.tolist() == list(range(10, 20))
    assert set(file.redraws) == {0}


def test_an_image_is_the_first_attempt_that_agrees_with_its_layout_or_the_best_one(tiny_study, generated):
    """A network that agrees enough with the second attempt or, where the layout starts with tumour, with none, and most
    with the second."""
    plain = generated(0, "plain.h5")
    looks = {}

    def agreement(images, layouts):
        values = []
        for image, layout in zip(images, layouts, strict=True):
            looks.setdefault(layout.tobytes(), []).append(image.tobytes())
            attempt = len(looks[layout.tobytes()])
            values.append((0.3, 0.4, 0.2)[attempt - 1] if layout[0, 0] == 1 else (0.4, 0.5)[attempt - 1])
        return np.array(values)

    never = {int(image) for image, layout in zip(plain.image_id, labels(plain), strict=True) if layout[0, 0] == 1}
    assert 0 < len(never) < 10
    found = generated(0, "0.h5", Filter(arm="real", iou=0.5, redraws=2), agreement)
    assert found.image_id.tolist() == list(range(10))
    assert set(found.redraws) == {1}
    assert {len(images) for images in looks.values()} == {2, 3}
    for index, (layout, number) in enumerate(zip(labels(found), found.image_id, strict=True)):
        assert found.image(index).tobytes() == looks[layout.tobytes()][1]
        assert len(looks[layout.tobytes()]) == (3 if number in never else 2)
    assert all(len(set(images)) == len(images) for images in looks.values())  # from other noise each time

    shards = [tiny_study / "0.h5", generated(1, "1.h5").path]
    manifest = write_manifest(tiny_study / "plan.csv", shards, out=tiny_study / "manifest.csv").set_index("image")
    planned = PLAN.read(tiny_study / "plan.csv").set_index("image")
    assert manifest["kept"].all()
    assert manifest["redraws"].tolist() == [int(n < 10) for n in range(20)]
    assert (manifest["seed"] - planned["seed"]).tolist() == [int(n < 10) for n in range(20)]
    same = planned.columns.drop("seed")
    pd.testing.assert_frame_equal(manifest[same], planned[same])


def labels(file):
    return [file.labels(index) for index in range(len(file))]


def test_images_of_which_nothing_can_be_told_are_kept(generated):
    unknown = lambda images, layouts: np.full(len(images), np.nan)  # noqa: E731
    assert len(generated(0, "0.h5", Filter(arm="real"), unknown)) == 10


def test_shards_of_another_plan_are_errors(tiny_study, generated):
    other = generated(1, "1.h5")
    plan(tiny_study, images=5)
    with pytest.raises(UserError, match=r"plan\.csv: has not the images of"):
        write_manifest(tiny_study / "plan.csv", [other.path], out=tiny_study / "manifest.csv")
