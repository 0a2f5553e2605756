"""Coordinates in the layouts of CLAM and TRIDENT, written here as their code writes them."""

import h5py
import numpy as np
import pytest

from stedm.config import Annotations, Patches, PatchesOptions
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides.coords import read_coords
from stedm.slides.patches import extract_patches
from stedm.store import PatchFile

CORNERS = np.array([[64, 0], [3, 7], [200, 300]])


def extract(slide, classes, patches, out):
    options = PatchesOptions(classes=classes, annotations=Annotations(), patches=patches)
    return extract_patches(options, slide, out=out, overview=out.with_suffix(".png"))


def clam(path, coords=CORNERS, patch_size=64, patch_level=0, downsample=(1.0, 1.0)):
    """As CLAM's `save_hdf5` (wsi_core/wsi_utils.py) with the attributes of `WholeSlideImage.process_contour`."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "coords", shape=coords.shape, maxshape=(None, *coords.shape[1:]), chunks=(1, 2), dtype=coords.dtype
        )
        dataset[:] = coords
        attributes = {
            "patch_size": patch_size,
            "patch_level": patch_level,
            "downsample": downsample,
            "downsampled_level_dim": tuple(np.array((384, 512))),
            "level_dim": (384, 512),
            "name": path.stem,
            "save_path": str(path.parent),
        }
        for key, value in attributes.items():
            dataset.attrs[key] = value
    return path


def trident(path, coords=CORNERS, patch_size=64, level0=64, overlap=0):
    """As TRIDENT's `save_h5` (trident/IO.py) with the attributes of `WSI.extract_tissue_coords`."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "coords", shape=coords.shape, maxshape=(None, *coords.shape[1:]), chunks=(1, 2), dtype=coords.dtype
        )
        dataset[:] = coords
        attributes = {
            "patch_size": patch_size,
            "patch_size_level0": level0,
            "level0_magnification": 20,
            "target_magnification": 20 * patch_size / level0,
            "overlap": overlap,
            "name": path.stem.removesuffix("_patches"),
            "savetodir": str(path.parent),
            "level0_width": 384,
            "level0_height": 512,
        }
        for key, value in attributes.items():
            dataset.attrs[key] = value
    return path


@pytest.fixture
def slide(tmp_path, tiff):
    image = np.random.default_rng(0).integers(0, 200, (512, 384, 3), dtype=np.uint8)
    return Slide("s1", "p1", tiff(tmp_path / "s1.tif", image, mpp=0.5)), image


@pytest.mark.parametrize("name", ["s1.h5", "s1_patches.h5"])
@pytest.mark.parametrize("write", [clam, trident])
def test_patches_are_cut_where_the_coordinates_say(tmp_path, slide, classes, write, name):
    (tmp_path / "theirs").mkdir()
    write(tmp_path / "theirs" / name)
    row, image = slide
    options = Patches(size=64, mpp=0.5, coords=str(tmp_path / "theirs"))
    extract(row, classes, options, tmp_path / "out.h5")
    patches = PatchFile(tmp_path / "out.h5")
    assert sorted(patches.coords.tolist()) == sorted(CORNERS.tolist())
    for index, (x, y) in enumerate(patches.coords):
        np.testing.assert_array_equal(patches.image(index), image[y : y + 64, x : x + 64])


def test_clam_patches_of_a_lower_level_and_trident_patches_of_a_lower_magnification(tmp_path):
    low = clam(tmp_path / "a.h5", patch_size=16, patch_level=1, downsample=(4.0, 4.0))
    np.testing.assert_array_equal(read_coords(low, (384, 512), 64.0), CORNERS)
    half = trident(tmp_path / "b.h5", patch_size=32, level0=64)
    np.testing.assert_array_equal(read_coords(half, (384, 512), 64.0), CORNERS)


def test_magnifications_are_taken_for_the_resolutions_that_they_round(tmp_path):
    path = trident(tmp_path / "a.h5", patch_size=256, level0=512, coords=np.array([[0, 0]]))
    assert len(read_coords(path, (2000, 2000), 256 * 0.5 / 0.2525)) == 1


def test_patches_beyond_the_edge_are_left_out(tmp_path):
    path = clam(tmp_path / "a.h5", np.array([[0, 0], [330, 0], [320, 448], [0, 460]]))
    assert read_coords(path, (384, 512), 64.0).tolist() == [[0, 0], [320, 448]]


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: clam(path, patch_size=128), "its patches are 128 level-0 pixels a side.* 64; set these"),
        (lambda path: trident(path, level0=128), "its patches are 128 level-0 pixels a side"),
        (lambda path: clam(path, CORNERS + 400), "another slide's"),
        (lambda path: clam(path, CORNERS - 100), "another slide's"),
        (lambda path: trident(path, np.zeros((3, 3), int)), r"shape \(3, 3\)"),
        (lambda path: h5py.File(path, "w").close(), "cannot be read"),
        (lambda path: path.write_bytes(b"no HDF5"), "cannot be read"),
        (lambda path: h5py.File(path, "w").create_group("coords"), "is a group, not a data set"),
    ],
)
def test_coordinates_that_do_not_fit_name_their_file(tmp_path, write, problem):
    write(tmp_path / "s1.h5")
    with pytest.raises(UserError, match=rf"s1\.h5: .*{problem}"):
        read_coords(tmp_path / "s1.h5", (384, 512), 64.0)


def test_a_file_without_patches_is_a_status(tmp_path, slide, classes):
    (tmp_path / "theirs").mkdir()
    clam(tmp_path / "theirs/s1.h5", np.zeros((0, 2), int))
    options = Patches(size=64, mpp=0.5, coords=str(tmp_path / "theirs"))
    assert extract(slide[0], classes, options, tmp_path / "out.h5") == 0
    attributes = PatchFile(tmp_path / "out.h5").attributes
    assert attributes["status"] == "no tissue"
    assert "s1.h5 has no patch on the slide" in attributes["problem"]


def test_our_patch_files_are_such_files(tmp_path, slide, classes):
    row, _ = slide
    grid = Patches(size=64, mpp=1.0)
    (tmp_path / "ours").mkdir()
    extract(row, classes, grid, tmp_path / "ours/s1.h5")
    ours = PatchFile(tmp_path / "ours/s1.h5")
    assert len(ours) == 12
    np.testing.assert_array_equal(read_coords(ours.path, (384, 512), 128.0), ours.coords)
