"""Structure of images without their moments: slides of discs of different sizes, each slide in its own colours."""

from functools import partial

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from tiny import save_network

from stedm.evaluation.features import feature_extractor
from stedm.evaluation.structure import described_by_structure, principal_axes
from stedm.evaluation.style import described_by_moments, style_fidelity
from stedm.images import to_images, to_pixels
from stedm.store import PatchFile, write_patches
from stedm.style.moments import recolour, slide_moments

RADII = {"A": 2.0, "B": 3.0, "C": 4.5, "D": 6.5}
TISSUE = {"A": (230, 170, 200), "B": (210, 180, 220), "C": (235, 200, 190), "D": (190, 150, 190)}
NUCLEI = {"A": (90, 60, 140), "B": (60, 60, 120), "C": (130, 70, 110), "D": (70, 30, 90)}
PATIENTS = {f"S{patient}": patient for patient in RADII}


def nuclei(size_of, colours_of, rng):
    """A patch of nuclei as large as one patient's, in another's colours, covering a quarter of the tissue."""
    radius, side = RADII[size_of], 48
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side, 3), TISSUE[colours_of], float)
    for middle in rng.uniform(0, side, (round(0.25 * side**2 / (np.pi * radius**2)), 2)):
        image[np.hypot(y - middle[0], x - middle[1]) < radius] = NUCLEI[colours_of]
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twenty-four patches of each patient."""
    folder, rng = tmp_path_factory.mktemp("patches"), np.random.default_rng(0)
    for patient in RADII:
        rows = [(nuclei(patient, patient, rng), None, (48 * n, 0), 1.0) for n in range(24)]
        attributes = {"slide": f"S{patient}", "patient": patient, "downsample": 1.0}
        write_patches(folder / f"S{patient}.h5", rows, 48, ["stroma", "tumour"], attributes)
    return [PatchFile(folder / f"{slide}.h5") for slide in PATIENTS]


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """Features of an untrained network."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("network")
    architecture = {"encoder_depth": 3, "decoder_channels": [8, 8, 8], "classes": 2}
    save_network(smp.Unet("tu-resnet18", encoder_weights=None, **architecture), folder)
    return feature_extractor("segmenter", folder)


@pytest.fixture(scope="module")
def fidelity(files, extract):
    """Mean columns of `style_fidelity` for images in the styles of B, C, D, in turn; A is annotated."""

    def shares(images, styled=True):
        styles = [f"S{patient}" for patient in "BCD" * (len(images) // 3)]
        kinds = described_by_moments(images, files)
        kinds["structure"] = described_by_structure(images, styles, styled, files, extract, batch_size=10)
        owned = [(slide, PATIENTS[slide]) for slide in styles]
        found = style_fidelity(kinds, owned, PATIENTS, ["SA"])
        return found[[name for name in found if "own" in name]].astype(float).mean()

    return shares


CHANCE = 1 / 4


def test_recoloured_patches_have_the_moments_of_their_style_but_not_its_structure(files, fidelity):
    moments = {file.slide: slide_moments(file) for file in files}
    images = to_images(np.stack([files[0].image(n % 24) for n in range(36)]))
    to = [moments[f"S{patient}"] for patient in "BCD" * 12]
    recoloured = [recolour(image[None], moments["SA"], target) for image, target in zip(images, to, strict=True)]
    found = fidelity(to_pixels(torch.cat(recoloured)))
    assert found["colour_nearest_is_own_patient"] > 0.9 and found["moments_nearest_is_own_patient"] > 0.75
    assert found["structure_nearest_is_own_patient"] <= CHANCE
    assert found["structure_nearer_to_own_slide"] <= CHANCE
    assert found["real_structure_nearest_is_own_patient"] > 0.75


@pytest.mark.parametrize("styled", [True, False])
def test_images_with_the_structure_of_their_style_are_told_whatever_their_colours(fidelity, styled):
    """In the colours of the style's slide, which were put in; or all in those of A, as of a source without style."""
    rng = np.random.default_rng(1)
    new = partial(nuclei, rng=rng)
    images = np.stack([new(patient, patient if styled else "A") for patient in "BCD" * 12])
    found = fidelity(images, styled)
    assert found["structure_nearest_is_own_patient"] > 0.75
    assert found["structure_nearer_to_own_slide"] > 0.75
    assert (found["colour_nearest_is_own_patient"] > 0.75) == styled


def test_the_axes_are_those_of_the_largest_variance():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    features = rng.normal(size=(500, 40)) * np.arange(40, 0, -1) @ turn
    axes = principal_axes(features)
    assert axes.shape == (40, 16)
    np.testing.assert_allclose(axes.T @ axes, np.eye(16), atol=1e-9)
    expected = np.linalg.svd(features - features.mean(0))[1][:16] ** 2 / 499
    np.testing.assert_allclose((features @ axes).var(0, ddof=1), expected)
    assert principal_axes(features[:, :3]).shape == (3, 3)
