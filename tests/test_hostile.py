"""A handful of the hostile inputs of `tests/hostile.py`, each by its command in a process of its own.

All of them: `python tests/hostile.py`.
"""

import hostile
import pytest

FAST = [
    "slide: JPEG of 4,000 Mpx",
    "slide: TIFF that claims 4 × 10^9 px along each side",
    "slide: VMS whose image is a pipe",
    "slide: pipe, socket, /dev/zero, folder, link to itself",
    "annotation: XML with a billion laughs",
    "annotation: an outline that crosses itself 12 × 10^6 times",
    "annotation: GeoJSON of 100 GB, sparse",
    "annotation: a hole that crosses itself 12 × 10^6 times (ImageScope)",
    "sheet: a million columns",
    "configuration: merged aliases",
    "coordinates: a chunk of 16 KB that unpacks to 10 GB",
    "model: safetensors with a header of 2^60 bytes",
]


@pytest.mark.parametrize("name", FAST)
def test_hostile_input_is_refused_in_time(tmp_path, name):
    found = hostile.attempt(name, tmp_path / "input")
    assert found.fine, found
    assert found.status == 2, found


def test_there_are_enough_of_them():
    assert len(hostile.INPUTS) >= 50
