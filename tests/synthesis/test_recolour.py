"""Recolouring, on slides whose mean and covariance are known."""

import cv2
import numpy as np
import pytest
import tiny
from tiny import CLASSES, plan

from stedm.config import Recolour
from stedm.files import written_whole
from stedm.store import PatchFile, write_patches
from stedm.synthesis.plan import layout_of, matrix_of, warp
from stedm.synthesis.recolour import recolour
from stedm.tables import PLAN

UNMOVED = {"scale": (1, 1), "rotation": 0, "shear": 0, "translation": 0}
PINK = (170, 110, 150), [[20, 0, 0], [10, 12, 0], [-4, 6, 8]]
BLUE = (90, 120, 180), [[8, 0, 0], [-3, 15, 0], [5, 5, 12]]
"""Mean, and a matrix that colours noise: the covariance is its product with its transpose."""


def write_noise(path, mean, colouring, layout):
    rng = np.random.default_rng(0)
    pixels = np.array(mean) + rng.normal(size=(16, 32, 32, 3)) @ np.array(colouring).T
    patches = [
        (image, layout, (64 * n, 0), 1.0) for n, image in enumerate(pixels.round().clip(0, 255).astype(np.uint8))
    ]
    attributes = {"slide": path.stem, "patient": path.stem, "group": "", "status": "ok"}
    write_patches(path, patches, 32, CLASSES, attributes)


@pytest.fixture
def noise(tiny_study):
    """The tiny study with noise in pink on annotated slides and in blue on the others."""
    for slide in ("A1", "A2", "U1", "U2"):
        path = tiny_study / f"patches/{slide}.h5"
        layout = None if slide[0] == "U" else PatchFile(path).labels(0)
        write_noise(path, *(BLUE if slide[0] == "U" else PINK), layout)
    return tiny_study


def shard(study):
    return tiny.shard(study, recolour, Recolour(kind="recolour"))


def test_recoloured_patches_have_the_mean_and_covariance_of_the_styles_slide(noise):
    plan(noise, images=64, shards=1, affine=UNMOVED)
    made = shard(noise)
    pixels = np.stack([made.image(index) for index in range(64)]).reshape(-1, 3).astype(float)
    mean, colouring = BLUE
    np.testing.assert_allclose(pixels.mean(0), mean, atol=0.7)
    covariance = np.array(colouring) @ np.array(colouring).T
    np.testing.assert_allclose(np.cov(pixels.T), covariance, atol=0.04 * covariance.max())


def test_in_the_style_of_its_own_slide_a_patch_is_itself_moved_as_the_plan_says(noise):
    table = plan(noise, images=8, shards=1)
    (noise / "plan.csv").unlink()
    with written_whole(noise / "plan.csv") as temporary:
        PLAN.write(table.assign(style_slide=table["layout_slide"]), temporary)
    made = shard(noise)
    for index, row in table.iterrows():
        patch = PatchFile(noise / f"patches/{row['layout_slide']}.h5").image(row["layout_patch"])
        moved = warp(patch, matrix_of(row), cv2.INTER_CUBIC)
        np.testing.assert_allclose(made.image(index).astype(int), moved.astype(int), atol=1)


def test_layouts_are_those_of_the_plan(noise):
    table = plan(noise)
    files = {name: PatchFile(noise / f"patches/{name}.h5") for name in ("A1", "A2", "U1", "U2")}
    made = shard(noise)
    assert (made.source, made.attributes["styled"], made.image_id.tolist()) == ("some", True, list(range(10)))
    for index in range(10):
        np.testing.assert_array_equal(made.labels(index), layout_of(table.iloc[index], files))
    assert {*np.unique(made.labels(0))} == {0, 1}
