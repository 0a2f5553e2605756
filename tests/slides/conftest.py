"""Slides and annotations made for the tests: small, without loss, with known pixels."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from shapely.geometry import box, mapping

from stedm.config import Annotations, TissueClass


@pytest.fixture
def real_data():
    folder = os.environ.get("STEDM_REAL_DATA")
    if not folder:
        pytest.skip("STEDM_REAL_DATA is not set: no real slides here")
    return Path(folder)


@pytest.fixture
def classes():
    return [
        TissueClass(name="stroma", color="#3f7fbf", mask_values=["0"]),
        TissueClass(name="tumour", color="#c83232", annotations=["Tumor", "Tumor: Positive"], mask_values=["1-65535"]),
    ]


@pytest.fixture
def annotations():
    return Annotations()


@pytest.fixture
def tiff():
    return write_tiff


@pytest.fixture
def geojson():
    return write_geojson


def write_tiff(path, image, mpp=None, levels=()):
    """A tiled TIFF without loss that OpenSlide opens; `levels` are its smaller copies."""
    with tifffile.TiffWriter(path) as file:
        for number, level in enumerate([image, *levels]):
            scale = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
            file.write(
                level,
                tile=(64, 64),
                photometric="rgb",
                compression="zlib",
                subfiletype=int(number > 0),
                metadata=None,
                **scale,
            )
    return path


def write_geojson(path, *shapes):
    """Features of (class name, geometry or box coordinates), as QuPath 0.4 writes them."""
    features = [
        {
            "type": "Feature",
            "id": str(number),
            "geometry": mapping(box(*where)) if isinstance(where, tuple) else where,
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
        }
        for number, (name, where) in enumerate(shapes)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def break_tile():
    """Overwrite one tile of a TIFF's level 0."""

    def spoil(path, tile):
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            offset, length = page.dataoffsets[tile], page.databytecounts[tile]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * length)

    return spoil


@pytest.fixture
def tissue_image():
    """(512, 512, 3): glass, with a pink disc of radius 150 in the middle."""
    image = np.full((512, 512, 3), 245, np.uint8)
    cv2.circle(image, (256, 256), 150, (220, 120, 180), -1)
    return image
