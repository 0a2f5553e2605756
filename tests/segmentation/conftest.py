import json
from pathlib import Path

import numpy as np
import pytest

from stedm import config
from stedm.store import PatchFile, write_patches

CLASSES = ["stroma", "tumour"]
COLOURS = ["#e8a0bf", "#6a3d9a"]
MADE_WITH = json.dumps(
    {
        "classes": [{"name": name, "color": color} for name, color in zip(CLASSES, COLOURS, strict=True)],
        "patches": {"size": 32, "mpp": 1.0},
    }
)


@pytest.fixture
def make_slide(tmp_path):
    """Write a patch file of 32 px patches whose red value tells the slide, green the patch, blue the class."""

    def make(slide: str, count: int, red: int, patient: str | None = None, annotated: bool = True) -> PatchFile:
        labels = np.zeros((32, 32), np.uint8)
        labels[:16, :16] = 1  # a quarter, so that all eight turns and flips but those about the diagonal differ
        patches = []
        for number in range(count):
            image = np.empty((32, 32, 3), np.uint8)
            image[:] = red, number, 0
            image[..., 2] = 200 * labels
            patches.append((image, labels if annotated else None, (0, 64 * number), 1.0))
        path = Path(tmp_path) / f"patches/{slide}.h5"
        attributes = {"slide": slide, "patient": patient or slide, "mpp": 1.0, "options": MADE_WITH}
        write_patches(path, patches, 32, CLASSES, attributes)
        return PatchFile(path)

    return make


@pytest.fixture
def options():
    """The smallest network, and a short training."""

    def make(**training) -> config.Network:
        values = {"steps": 4, "batch_size": 8, "learning_rate": 3e-3, "ema_decay": 0.9}
        return config.Network(
            encoder="tu-test_resnet",
            encoder_depth=3,
            decoder_channels=[16, 8, 8],
            training=config.Training(**values | training),
        )

    return make
