"""What several tests share: a tiny study on disk, made of patch files alone."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a missing download is told at once, without the hub's retries

PATCH = 32

settings.register_profile("short", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("long", max_examples=20_000, deadline=None)
settings.load_profile("short")


@pytest.fixture
def tiny_study(tmp_path: Path) -> Path:
    return make_tiny_study(tmp_path)


def make_tiny_study(tmp_path: Path) -> Path:
    """A folder with `patches/` of five slides (4×4 grid of 32 px at downsample 2) and `split.csv`.

    A1 and A2 are annotated (left half class 0, right half class 1), U1 and U2 unannotated, T1 is for the test. Each
    slide has a colour of its own, with noise.
    """
    from stedm.store import write_patches

    colours = {"A1": 60, "A2": 80, "U1": 160, "U2": 200, "T1": 240}
    roles = {"A": "annotated", "U": "unannotated", "T": "test"}
    layout = np.zeros((PATCH, PATCH), np.uint8)
    layout[:, PATCH // 2 :] = 1
    classes = [{"name": "stroma", "color": "#e8a0bf"}, {"name": "tumour", "color": "#6a3d9a"}]
    made_with = {"classes": classes, "patches": {"size": PATCH, "level": 0}}
    for number, (slide, colour) in enumerate(colours.items()):
        rng = np.random.default_rng(number)
        patches = [
            (
                np.clip(rng.normal((colour, colour // 2, colour), 10, (PATCH, PATCH, 3)), 0, 255).astype(np.uint8),
                layout if slide[0] != "U" else None,
                (x * 2 * PATCH, y * 2 * PATCH),
                1.0,
            )
            for y in range(4)
            for x in range(4)
        ]
        attributes = {"slide": slide, "patient": slide, "group": "", "status": "ok", "downsample": 2.0}
        attributes["options"] = json.dumps(made_with)
        write_patches(tmp_path / f"patches/{slide}.h5", patches, PATCH, ["stroma", "tumour"], attributes)
    rows = [
        {"slide": slide, "patient": slide, "group": "", "role": roles[slide[0]], "labelled": slide[0] != "U"}
        for slide in colours
    ]
    pd.DataFrame(rows).assign(fingerprint="").to_csv(tmp_path / "split.csv", index=False)
    return tmp_path
