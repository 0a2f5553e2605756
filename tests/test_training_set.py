import numpy as np
import pytest
from damage import edited

from stedm.training_set import PatchSampler, by_patient, files_of


def named(files):
    return [file.slide for file in files]


@pytest.mark.parametrize(
    ("roles", "slides"),
    [((), ["A1", "A2", "U1", "U2"]), (("annotated",), ["A1", "A2"]), (("test", "annotated"), ["A1", "A2", "T1"])],
)
def test_files_are_those_of_the_slides_with_the_roles(tiny_study, roles, slides):
    assert named(files_of(tiny_study / "split.csv", tiny_study / "patches", *roles)) == slides


def test_slides_of_one_patient_come_together_in_the_order_of_names(tiny_study):
    for slide, patient in {"A1": "Z", "A2": "B", "U1": "Z"}.items():
        with edited(tiny_study / f"patches/{slide}.h5") as file:
            file.attrs["patient"] = patient
    patients = by_patient(files_of(tiny_study / "split.csv", tiny_study / "patches"))
    assert {patient: named(files) for patient, files in patients.items()} == {
        "B": ["A2"],
        "U2": ["U2"],
        "Z": ["A1", "U1"],
    }
    assert list(patients) == ["B", "U2", "Z"]


def test_patients_slides_and_patches_are_sampled_alike(tiny_study):
    """A1 and U1 are of one patient, A2 of another, of U1 one patch may be sampled and of U2 none."""
    with edited(tiny_study / "patches/U1.h5") as file:
        file.attrs["patient"] = "A1"
    allowed = {"A1": range(16), "A2": range(4), "U1": [7], "U2": []}
    files = files_of(tiny_study / "split.csv", tiny_study / "patches")
    sampler = PatchSampler(files, lambda file: np.isin(np.arange(16), list(allowed[file.slide])))
    rng = np.random.default_rng(0)
    sampled = [(file.slide, index) for file, index in (sampler.sample(rng) for _ in range(6400))]
    expected = {("A1", n): 100 for n in range(16)} | {("U1", 7): 1600} | {("A2", n): 800 for n in range(4)}
    counts = {place: sampled.count(place) for place in set(sampled)}
    assert counts.keys() == expected.keys()
    for place, count in expected.items():
        assert counts[place] == pytest.approx(count, abs=5 * count**0.5), place


def test_every_training_samples_by_the_same_rule(tiny_study):
    """With twice the slides of another, a patient is in as many items of a batch."""
    from tiny import options

    from stedm.config import ArmData, Network
    from stedm.diffusion.data import GeneratorBatches
    from stedm.first_stage import ImageBatches
    from stedm.segmentation.data import Batches

    for slide in ("U1", "U2"):
        with edited(tiny_study / f"patches/{slide}.h5") as file:
            file.attrs["patient"] = "U"
            file["class_fractions"][:, 0] = 1
    everything = files_of(tiny_study / "split.csv", tiny_study / "patches")
    files = [file for file in everything if file.slide != "A1"]  # of A2, and of U with two slides
    training = {"steps": 1, "batch_size": 1000}
    images = ImageBatches(files, 1000, 0)[0]["images"]
    style = {"sampler": "none", "canonical": False}
    generator = GeneratorBatches(options(style=style, training=training, data="zero_shot"), files, [], 0)
    network = Network(encoder="tu-test_resnet", encoder_depth=3, decoder_channels=[8] * 3, training=training)
    segmentation = Batches(files, [], network, ArmData(), 0)[0]["image"]
    for pixels in (images, generator[0]["images"], segmentation):
        brightness = pixels.float().mean((1, 2, 3))
        assert (brightness < 90).float().mean().item() == pytest.approx(0.5, abs=0.08)  # A2 is the dark one
