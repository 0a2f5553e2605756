"""What phantoms promise of colour and texture."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.random import default_rng
from skimage.filters import laplace
from skimage.measure import label, regionprops

from stedm.phantom.files import render_slide
from stedm.phantom.layout import rasterise, sample_layout
from stedm.phantom.style import Style, sample_style
from stedm.phantom.tissue import render_holes, stroma_cells, tumour_cells

SIZE, MPP = 512, 0.5


def texture(style: Style, seed: int) -> np.ndarray:
    """Mean colour inside the tissue, and the mean sharpness of edges, of a slide in this style."""
    image, _, region = render_slide(SIZE, MPP, style, "solid", default_rng(seed))
    inside = rasterise(region, SIZE)
    return np.array([*image[inside].mean(axis=0), 1000 * np.abs(laplace(image.mean(axis=2) / 255))[inside].mean()])


def test_annotated_patients_vary_less_than_the_others_in_colour_and_texture():
    narrow, wide = (
        np.std([texture(sample_style(default_rng(seed), wide), 5) for seed in range(8)], axis=0)
        for wide in (False, True)
    )
    assert (wide > 2 * narrow).all()


def test_tumour_has_denser_nuclei_in_every_style():
    """Nuclei are what absorbs red light: haematoxylin does, eosin hardly."""
    for seed in range(6):
        style = replace(sample_style(default_rng(seed), wide=True), cytoplasm_haematoxylin=0.1, stroma_haematoxylin=0.1)
        image, tumour, region = render_slide(SIZE, MPP, style, "solid", default_rng(seed))
        nests, tissue = rasterise(tumour, SIZE), rasterise(region, SIZE)
        assert image[nests, 0].mean() < image[tissue & ~nests, 0].mean() - 10


def test_outside_the_tissue_is_bright_and_inside_is_stained():
    image, _, region = render_slide(SIZE, MPP, sample_style(default_rng(3), wide=True), "solid", default_rng(3))
    region = [polygon.buffer(4) for polygon in region]
    outside = ~rasterise(region, SIZE)
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert image.max(axis=2).min() > 0  # nothing is black
    assert image[outside].mean() > 225
    assert (image[rasterise([polygon.buffer(-8) for polygon in region], SIZE)].min(axis=1) < 215).mean() > 0.9


def eccentricity(coverage: np.ndarray) -> float:
    """The median over nuclei."""
    return float(np.median([nucleus.eccentricity for nucleus in regionprops(label(coverage > 0.5))]))


@pytest.fixture
def typical() -> Style:
    return replace(sample_style(default_rng(0), wide=False), spindle=0.0, inflammation=0.0, fat=0.0, density=0.6)


def test_spindles_have_the_area_of_round_nuclei_and_another_shape(typical):
    everywhere, direction = np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), np.float32)
    _, nuclei = tumour_cells(everywhere, direction, MPP, typical, default_rng(1))
    _, spindles = tumour_cells(everywhere, direction, MPP, replace(typical, spindle=0.6), default_rng(1))
    assert spindles.mean() == pytest.approx(nuclei.mean(), rel=0.15)  # some overlap
    assert eccentricity(nuclei) < 0.75 < 0.9 < eccentricity(spindles)


def test_inflammation_adds_small_round_cells_to_the_stroma(typical):
    everywhere, direction = np.ones((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), np.float32)
    _, few = stroma_cells(everywhere, direction, MPP, typical, default_rng(1))
    _, many = stroma_cells(everywhere, direction, MPP, replace(typical, inflammation=0.8), default_rng(1))
    assert eccentricity(few) > 0.9 > 0.6 > eccentricity(many)
    assert label(many > 0.5).max() > 1.8 * label(few > 0.5).max()


def test_fat_lies_in_the_stroma_and_grows_with_its_share(typical):
    layout, region = sample_layout(1024, MPP, "solid", default_rng(2))
    tumour, tissue = rasterise(layout, 1024), rasterise(region, 1024)
    shares = []
    for fat in (0.0, 0.15, 0.3):
        holes, _ = render_holes(tumour, tissue, MPP, replace(typical, fat=fat, lumina=0.0), default_rng(3))
        assert not (holes & tumour).any()
        shares.append(holes.sum() / (tissue & ~tumour).sum())
    assert shares[0] < 0.03
    assert shares[1] > shares[0] + 0.03
    assert shares[2] > shares[1] + 0.03
