"""The study of Oxford Flowers 17 on its images."""

import os
from pathlib import Path

import numpy as np
import pytest

from stedm import config
from stedm.sheet import read_sheet
from stedm.slides.annotations import read_annotation

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.real_data


@pytest.mark.skipif("STEDM_REAL_DATA" not in os.environ, reason="STEDM_REAL_DATA is not set: no real images here")
def test_every_class_but_one_has_flowers_and_background(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("STEDM_WEIGHTS", "imagenet")
    study = config.load(Path("workflow/studies/flowers17.yaml"))
    pixels: dict[str, np.ndarray] = {}
    for slide in read_sheet(study.slides):
        if slide.annotation is not None:
            annotation = read_annotation(slide.annotation, study.classes, study.annotations, (256, 256))
            labels = annotation.rasterise(0, 0, 256, 256, 1)
            counted = np.bincount(labels.ravel(), minlength=256)[[0, 1, 255]]
            pixels[slide.patient] = pixels.get(slide.patient, 0) + counted
    assert len(pixels) == 16
    shares = np.array([counted / counted.sum() for counted in pixels.values()])
    assert (shares > 0.05).all()  # background, flower, not annotated
    assert shares[:, 2].max() < 0.25
