import numpy as np
import pytest

from stedm.config import Style
from stedm.errors import UserError
from stedm.images import dihedral
from stedm.store import patch_file, write_patches
from stedm.style.samplers import (
    augmented,
    candidates,
    has_style,
    mosaic,
    multi_patch,
    nearby,
    pieces_at,
    side_level0,
    style_images,
)


@pytest.fixture
def plane(tmp_path):
    """A slide whose pixel at patch-level (x, y) has the colour (x, y, 7): every pixel shows where it is from."""
    size = 16
    y, x = np.mgrid[: 4 * size, : 4 * size]
    image = np.stack([x, y, np.full_like(x, 7)], -1).astype(np.uint8)
    patches = [
        (image[j : j + size, i : i + size], None, (2 * i, 2 * j), 1.0)
        for j in range(0, 4 * size, size)
        for i in range(0, 4 * size, size)
    ]
    write_patches(tmp_path / "S.h5", patches, size, ["a", "b"], {"slide": "S", "downsample": 2.0})
    return patch_file(tmp_path, "S")


def rows_and_columns(image):
    """The pixels an image shows, as a set of (x, y)."""
    return {(int(x), int(y)) for x, y in image[..., :2].reshape(-1, 2)}


def test_a_style_set_never_shows_pixels_of_its_target(plane):
    options = Style(sampler="multi_patch", images=5)
    for index in range(len(plane)):
        rng = np.random.default_rng(index)
        own = rows_and_columns(plane.image(index))
        for image in style_images(options, plane, index, rng)():
            assert not own & rows_and_columns(image)


def test_overlapping_patches_of_the_target_are_no_candidates(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    patches = [(image, None, (x, 0), 1.0) for x in range(0, 128, 16)]  # 32 level-0 pixels wide: each overlaps the next
    write_patches(tmp_path / "S.h5", patches, 16, ["a", "b"], {"slide": "S", "downsample": 2.0})
    file = patch_file(tmp_path, "S")
    assert candidates(Style(), file, 3).tolist() == [0, 1, 5, 6, 7]
    assert 3 in candidates(Style(exclude_overlap=False), file, 3)


def test_a_set_has_no_repeats_where_there_are_enough_patches(plane):
    chosen = multi_patch(Style(images=15), plane, 0, np.random.default_rng(0))
    assert sorted(chosen) == list(range(1, 16))
    assert len(multi_patch(Style(images=40), plane, 0, np.random.default_rng(0))) == 40


def test_a_mosaic_of_neighbours_is_the_slide_at_that_place(plane):
    image = mosaic(plane, pieces_at(plane, np.array([2 * 11, 2 * 21])))
    y, x = np.mgrid[21:37, 11:27]
    np.testing.assert_array_equal(image[..., 0], x)
    np.testing.assert_array_equal(image[..., 1], y)


def test_beyond_the_patches_there_is_no_mosaic(plane):
    assert not pieces_at(plane, np.array([-2, 0]))


def test_nearby_is_within_a_patch_of_the_target(plane):
    options = Style(sampler="nearby", images=1, exclude_overlap=False)
    middle = 5
    for seed in range(20):
        image = mosaic(plane, nearby(options, plane, middle, np.random.default_rng(seed)))
        offset = np.abs(image[0, 0, :2].astype(int) - plane.image(middle)[0, 0, :2])
        assert (offset <= 16).all()


def test_nearby_falls_back_on_another_patch_never_on_the_target(tmp_path):
    patches = [(np.full((16, 16, 3), value, np.uint8), None, (value, 0), 1.0) for value in (0, 200)]
    write_patches(tmp_path / "S.h5", patches, 16, ["a", "b"], {"slide": "S", "downsample": 2.0})
    options = Style(sampler="nearby", images=1, exclude_overlap=False)
    file = patch_file(tmp_path, "S")
    for seed in range(5):
        assert (mosaic(file, nearby(options, file, 0, np.random.default_rng(seed))) == 200).all()


def test_nearby_without_overlap_shows_no_pixel_of_the_target(plane):
    options = Style(sampler="nearby", images=1)
    for index in range(len(plane)):
        image = mosaic(plane, nearby(options, plane, index, np.random.default_rng(index)))
        assert not rows_and_columns(image) & rows_and_columns(plane.image(index))


def test_augmented_shows_the_same_pixels_elsewhere(plane):
    image = augmented(plane.image(6), np.array([3, 5]), 6)
    assert rows_and_columns(image) == rows_and_columns(plane.image(6))
    assert not np.array_equal(image, plane.image(6))


def test_a_slide_of_one_patch_is_refused_with_the_remedy(tmp_path):
    write_patches(
        tmp_path / "S.h5",
        [(np.zeros((16, 16, 3), np.uint8), None, (0, 0), 1.0)],
        16,
        ["a", "b"],
        {"slide": "S", "downsample": 1.0},
    )
    with pytest.raises(UserError, match="augmented"):
        multi_patch(Style(), patch_file(tmp_path, "S"), 0, np.random.default_rng(0))


def test_patches_without_another_beside_them_are_told_apart(tmp_path):
    image = np.zeros((16, 16, 3), np.uint8)
    for corners in ([(0, 0)], [(0, 0), (8, 8)], [(0, 0), (20, 4), (32, 0)], [(0, 0), (0, 30), (6, 61)]):
        path = tmp_path / f"{len(corners)}{corners[-1][1]}.h5"
        attributes = {"slide": path.stem, "downsample": 2.0}
        write_patches(path, [(image, None, corner, 1.0) for corner in corners], 16, ["a", "b"], attributes)
        file = patch_file(tmp_path, path.stem)
        assert has_style(Style(), file).tolist() == [len(candidates(Style(), file, i)) > 0 for i in range(len(file))]


def test_the_eight_orientations_differ():
    image = np.arange(12).reshape(2, 2, 3)
    assert len({dihedral(image, which).tobytes() for which in range(8)}) == 8


def test_the_side_of_a_patch_is_in_level_0_pixels(plane):
    assert side_level0(plane) == 32
