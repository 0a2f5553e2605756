"""What phantoms promise of colour and texture."""

from dataclasses import replace

import numpy as np
from numpy.random import default_rng
from skimage.filters import laplace

from stedm.phantom.files import render_slide
from stedm.phantom.layout import rasterise
from stedm.phantom.style import Style, sample_style

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
