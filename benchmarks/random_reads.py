"""How many patches a second training can read at random from a patch file.

    python benchmarks/random_reads.py           # a table
    python benchmarks/random_reads.py --json    # and its figures as one JSON object on the last line

Patches of 256 px of the demo's tissue, read from a warm disk cache in random order, per second of one core: by
`PatchFile.image` from both forms of storage, by plain h5py, and from the layouts that were not taken.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from stedm.phantom.files import render_slide
from stedm.phantom.style import sample_style
from stedm.store import PatchFile, write_patches

SIZE = 256
PATCHES = 1500
TISSUE = 2048
"""Pixels along each side of the tissue that patches are cut from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--reads", type=int, default=5000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    patches = cut_patches(rng)
    order = rng.integers(PATCHES, size=options.reads)
    figures: dict[str, float] = {}
    print(f"{'':42} {'KB a patch':>10} {'reads a second and core':>24}")
    with tempfile.TemporaryDirectory() as folder:
        for name, quality in (("raw", None), ("jpeg_90", 90), ("jpeg_95", 95)):
            path = Path(folder) / f"{name}.h5"
            write_patches(path, patches, SIZE, ["a", "b"], {"slide": name}, jpeg_quality=quality)
            figures[name] = show(f"PatchFile, {name}", path, PatchFile(path).image, order)
        raw = Path(folder) / "raw.h5"
        with h5py.File(raw) as file:
            images = file["imgs"]
            figures["h5py"] = show("raw, h5py, data set kept", raw, lambda index: images[index], order)
            figures["h5py_by_name"] = show("raw, h5py, file['imgs'][i]", raw, lambda index: file["imgs"][index], order)
        others = {"32_a_chunk": {"chunks": 32}, "gzip": {"chunks": 1, "compression": 4}}
        for name, layout in others.items():
            path = Path(folder) / f"{name}.h5"
            with h5py.File(path, "w") as file:
                chunks = (layout.pop("chunks"), SIZE, SIZE, 3)
                file.create_dataset("imgs", data=np.stack([image for image, *_ in patches]), chunks=chunks, **layout)
            with h5py.File(path) as file:
                images = file["imgs"]
                title = f"{name.replace('_', ' ')}, h5py"
                figures[name] = show(title, path, lambda index, images=images: images[index], order[:1000])
    if options.json:
        print(json.dumps({f"{name}_reads_per_second": round(value) for name, value in figures.items()}))


def cut_patches(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray | None, tuple[int, int], float]]:
    """Patches at random places of tissue, as `write_patches` takes them."""
    tissue, _, _ = render_slide(TISSUE, 0.5, sample_style(rng, wide=False), "solid", rng)
    corners = rng.integers(TISSUE - SIZE, size=(PATCHES, 2)).tolist()
    return [(tissue[y : y + SIZE, x : x + SIZE], None, (x, y), 1.0) for x, y in corners]


def show(name: str, path: Path, read: Callable[[int], np.ndarray], order: np.ndarray) -> float:
    """Read, print the row of the table, and return reads per second of CPU."""
    for index in order[:200]:
        read(int(index))
    start = time.process_time()
    for index in order:
        read(int(index))
    rate = len(order) / (time.process_time() - start)
    print(f"{name:42} {path.stat().st_size / PATCHES / 1000:10.0f} {rate:24,.0f}")
    return rate


if __name__ == "__main__":
    main()
