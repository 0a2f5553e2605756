import numpy as np
import pytest
from scipy.io import savemat


@pytest.fixture
def flowers102(data_set):
    return data_set("flowers102")


def test_classes_are_patients(flowers102):
    flowers102.make()
    slides = flowers102.slides
    assert len(slides) == 18
    assert slides["image_00004"].patient == slides["image_00006"].patient == "class_002"
    assert {slide.split for slide in slides.values()} == {""}


def test_parts_choose_images(flowers102):
    flowers102.make("--parts", "train", "test")
    assert sorted(flowers102.slides)[:3] == ["image_00001", "image_00003", "image_00004"]
    assert len(flowers102.slides) == 12


def test_masks_are_made_of_what_was_cut_out_on_blue(flowers102, monkeypatch):
    flowers102.make()
    labels = flowers102.labels("image_00001", monkeypatch)
    assert (labels[72:184, 72:184] == 1).all()
    background = np.ones((256, 256), bool)
    background[56:200, 56:200] = False
    assert (labels[background] == 0).all()
    border = labels[48:208, 48:208]
    assert 0 < (border == 255).mean() < 0.1  # where JPEG made it uncertain


def test_lost_files_are_refused_or_left_out(flowers102):
    (flowers102.folder / "jpg/image_00001.jpg").unlink()
    (flowers102.folder / "segmim/segmim_00002.jpg").unlink()
    (flowers102.folder / "segmim/segmim_00003.jpg").write_bytes(b"no image")
    broken, first, second, remedy = flowers102.refused()
    assert "segmim_00003.jpg: cannot be read as an image" in broken
    assert "image_00001.jpg: is missing" in first and "segmim_00002.jpg: is missing" in second
    assert "--partial" in remedy


@pytest.mark.parametrize("name", ["imagelabels.mat", "setid.mat"])
def test_unreadable_lists_are_refused(flowers102, name):
    path = flowers102.folder / name
    path.write_bytes(path.read_bytes()[:100])
    (message,) = flowers102.refused()
    assert f"{name}: has no integers" in message
    path.unlink()
    (message,) = flowers102.refused()
    assert f"{name}: has no integers" in message


def test_lists_of_two_data_sets_are_refused(flowers102):
    savemat(flowers102.folder / "imagelabels.mat", {"labels": np.ones((1, 4), np.uint8)})
    (message,) = flowers102.refused()
    assert "lists image 18, but imagelabels.mat has 4" in message
