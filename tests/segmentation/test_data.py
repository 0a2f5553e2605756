import pickle
from typing import get_args

import numpy as np
import pytest
import torch

from stedm import config
from stedm.segmentation import data
from stedm.segmentation.data import Batches

REAL = config.ArmData()
SYNTHETIC = config.ArmData(sources=["styled"])
STAINED = config.ArmData(augmentation="stain")


@pytest.fixture
def real(make_slide):
    """Patients A (one slide), B (two) and C (ten times the patches), each with a red value of its own."""
    return [make_slide("A", 4, 10), make_slide("B1", 3, 20, "B"), make_slide("B2", 3, 30, "B"), make_slide("C", 60, 40)]


@pytest.fixture
def drawn(make_slide):
    """The two shards of one source."""
    return [[make_slide("0", 5, 200), make_slide("1", 15, 210)]]


def corners(batch):
    """Red and green of each image: which slide and patch it is."""
    return batch["image"][:, 0, 0, :2].tolist()


def test_synthetic_images_come_on_top_of_the_real_patches_in_the_asked_ratio(real, drawn, options):
    for ratio, count in ((0.5, 4), (0.8, 6), (0.0, 0), (1.0, 8), (4.0, 32)):
        chosen = options().model_copy(update={"synthetic_ratio": ratio})
        batch = Batches(real, drawn, chosen, SYNTHETIC, seed=0)[0]
        assert batch["image"].shape == (8 + count, 32, 32, 3)
        assert batch["image"].dtype == batch["label"].dtype == torch.uint8
        assert ((batch["image"][:, 0, 0, 0] >= 200) == (torch.arange(8 + count) >= 8)).all()
    assert (Batches(real, drawn, options(), REAL, seed=0)[0]["image"][:, 0, 0, 0] < 200).all()


def test_an_arm_may_ask_for_another_ratio_and_fewer_synthetic_images(real, drawn, options):
    few = config.ArmData(sources=["styled"], synthetic_ratio=0.25, synthetic_images=5)
    batches = Batches(real, drawn, options(), few, seed=0)
    seen = [corner for step in range(30) for corner in corners(batches[step]) if corner[0] >= 200]
    assert len(seen) == 30 * 2
    assert {red for red, _ in seen} == {200}  # the first shard has five images
    assert len({green for _, green in seen}) == 5


def test_arms_see_the_same_real_patches_at_each_step(real, drawn, options):
    many = config.ArmData(sources=["styled"], synthetic_ratio=3.0)
    without, with_drawn, stained, other_source, with_many = (
        Batches(real, shards, options(), arm, seed=3)
        for arm, shards in (
            (REAL, []),
            (SYNTHETIC, drawn),
            (STAINED, []),
            (config.ArmData(sources=["x"]), [drawn[0][:1]]),
            (many, drawn),
        )
    )
    for step in range(20):
        batch = without[step]
        for arm in (with_drawn, other_source, with_many):
            for key in ("image", "label"):
                assert torch.equal(arm[step][key][:8], batch[key])
        assert torch.equal(stained[step]["label"], batch["label"])
        assert not torch.equal(stained[step]["image"], batch["image"])


def test_each_augmentation_gets_the_same_real_patches(real, options, monkeypatch):
    seen = {}
    for how in get_args(config.Augmentation):
        images = seen.setdefault(how, [])
        monkeypatch.setattr(data, "augment", lambda image, *rest, images=images: images.append(image) or (image,) * 2)
        Batches(real, [], options(), config.ArmData(augmentation=how), seed=3)[5]
    assert all(np.array_equal(images, seen["flips"]) for images in seen.values())


def test_strong_batches_are_a_function_of_seed_and_step(real, options):
    strong = Batches(real, [], options(), config.ArmData(augmentation="strong"), seed=1)
    torch.manual_seed(0)
    first = strong[7]
    torch.manual_seed(1)
    assert torch.equal(strong[7]["image"], first["image"])
    assert torch.equal(strong[7]["label"], first["label"])
    assert not torch.equal(strong[8]["image"], first["image"])


def test_batches_are_a_function_of_seed_and_step(real, options):
    batches = Batches(real, [], options(), STAINED, seed=1)
    later = batches[7]
    assert all(torch.equal(later[key], Batches(real, [], options(), STAINED, seed=1)[7][key]) for key in later)
    assert corners(later) != corners(batches[8])
    assert corners(later) != corners(Batches(real, [], options(), STAINED, seed=2)[7])
    copy = pickle.loads(pickle.dumps(batches))  # as data loader workers get it, after the files were opened
    assert torch.equal(copy[7]["image"], later["image"])


def test_patients_are_sampled_alike_and_so_are_the_slides_of_one(real, options):
    batches = Batches(real, [], options(batch_size=50, steps=60), REAL, seed=0)
    red, green = np.array([place for step in range(60) for place in corners(batches[step])]).T
    counts = np.array([(red == 10).sum(), ((red == 20) | (red == 30)).sum(), (red == 40).sum()])
    assert np.abs(counts - 1000).max() < 110  # 4 standard deviations of a binomial (3000, 1/3)
    of_b = [((red == slide) & (green == number)).sum() for slide in (20, 30) for number in range(3)]
    assert np.abs(np.array(of_b) - 1000 / 6).max() < 60
    assert len(np.unique(green[red == 40])) == 60


def test_synthetic_images_are_drawn_from_all_shards_alike(real, drawn, options):
    batches = Batches(real, drawn, options(batch_size=50), SYNTHETIC, seed=0)
    places = [tuple(place) for step in range(40) for place in corners(batches[step])[50:]]
    expected = {(200, number) for number in range(5)} | {(210, number) for number in range(15)}
    assert set(places) == expected
    assert max(places.count(place) for place in expected) < 2 * min(places.count(place) for place in expected)


@pytest.mark.parametrize("count", [8, 9, 10])
def test_sources_have_equal_shares_of_the_synthetic_images(real, drawn, make_slide, options, count):
    others = [[make_slide("2", 5, 220)], [make_slide("3", 40, 230)]]
    arm = config.ArmData(sources=["a", "b", "c"], synthetic_ratio=count / 8, synthetic_images=12)
    batches = Batches(real, [*drawn, *others], options(), arm, seed=0)
    reds = [corner[0] // 10 for step in range(12) for corner in corners(batches[step])[8:]]
    shares = [reds.count(20) + reds.count(21), reds.count(22), reds.count(23)]
    assert shares == [4 * count] * 3
    greens = {green for step in range(60) for red, green in corners(batches[step]) if red == 230}
    assert greens == set(range(12))  # the first so many of each source
    again = Batches(real, [*drawn, *others], options(), arm, seed=0)
    assert torch.equal(again[7]["image"], batches[7]["image"])


def test_all_turns_occur_and_labels_turn_with_the_image(make_slide, options):
    batches = Batches([make_slide("A", 1, 10)], [], options(), REAL, seed=0)
    seen = set()
    for step in range(10):
        batch = batches[step]
        assert torch.equal(batch["image"][..., 2], 200 * batch["label"])
        seen |= {tuple(label[::31, ::31].flatten().tolist()) for label in batch["label"]}
    assert seen == {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)}


def test_patches_without_annotated_pixels_are_left_out(make_slide, options):
    files = [make_slide("A", 3, 10), make_slide("U", 50, 20, annotated=False)]
    batches = Batches(files, [], options(), REAL, seed=0)
    assert {red for step in range(10) for red, _ in corners(batches[step])} == {10}
