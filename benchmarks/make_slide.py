"""A slide to measure on: H&E like the phantoms' at 0.25 µm/px, laid out and compressed as Aperio's scanners do.

    python benchmarks/make_slide.py slide.svs --size 20000

240 px JPEG tiles with shared tables, levels 1, 4, 16, 32; 43% of the area is tissue. Written strip by strip, so that
memory does not grow with the slide's height.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile

from stedm.phantom.layout import noise, rasterise, sample_layout
from stedm.phantom.style import sample_style
from stedm.phantom.tissue import stain_tissue, transmit

TILE = 240
MPP = 0.25
LEVELS = (1, 4, 16, 32)
TEXTURE = 2400
"""Side of the tissue that is rendered, in pixels; the slide repeats it, flipped, so that seams do not show."""
TABLES = (0xDB, 0xC4)
COLOUR_MARKERS = (0xE0, 0xEE)


def make_slide(
    path: Path, size: int, tissue: float = 0.43, quality: int = 70, colours: str = "RGB", seed: int = 0
) -> None:
    """Write a square slide.

    Args:
        path: the file, .svs.
        size: pixels of each side at level 0.
        tissue: share of the area that is tissue.
        quality: of the JPEGs.
        colours: "RGB", as most Aperio slides have them, or "420", YCbCr subsampled.
        seed: of everything random.
    """
    rng = np.random.default_rng(seed)
    texture, glass = render_texture(rng)
    shape = noise(1000, 140, rng)
    mask = (shape > np.quantile(shape, 1 - tissue)).astype(np.float32)
    rest: list[np.ndarray] = []  # level 4, gathered while level 0 is written

    def strips() -> Iterator[np.ndarray]:
        for y in range(0, size, TILE):
            strip = compose(texture, glass, mask, y, size)
            rest.append(cv2.resize(strip, (size // 4, TILE // 4), interpolation=cv2.INTER_AREA))
            yield strip

    with tifffile.TiffWriter(path, bigtiff=size > 60_000) as file:
        write_level(file, size, strips(), 1, quality, colours)
        quarter = np.concatenate(rest)[: size // 4]
        for downsample in LEVELS[1:]:
            side = size // downsample
            level = cv2.resize(quarter, (side, side), interpolation=cv2.INTER_AREA)
            rows = (level[y : y + TILE] for y in range(0, side, TILE))
            write_level(file, side, rows, downsample, quality, colours)


def render_texture(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and glass, each (TEXTURE, TEXTURE, 3) uint8."""
    style = sample_style(rng, wide=False)
    everywhere = np.ones((TEXTURE, TEXTURE), bool)
    tumour, _ = sample_layout(TEXTURE, MPP, "solid", rng)
    stains = stain_tissue(rasterise(tumour, TEXTURE), everywhere, MPP, style, rng)
    none = np.zeros((TEXTURE, TEXTURE), np.float32)
    return transmit(*stains, MPP, style, rng), transmit(none, none, MPP, style, rng)


def compose(texture: np.ndarray, glass: np.ndarray, mask: np.ndarray, y: int, size: int) -> np.ndarray:
    """The strip (TILE, size, 3) at y: texture where the mask, which covers the whole slide, is set; else glass."""
    rows, columns = mirrored(np.arange(y, y + TILE)), mirrored(np.arange(size))
    scale = len(mask) / size
    x_map, y_map = np.meshgrid(np.arange(size) * scale, np.arange(y, y + TILE) * scale)
    inside = cv2.remap(mask, x_map.astype(np.float32), y_map.astype(np.float32), cv2.INTER_LINEAR) > 0.5
    return np.where(inside[:, :, None], texture[rows][:, columns], glass[rows][:, columns])


def mirrored(positions: np.ndarray) -> np.ndarray:
    """Positions in the texture, to and fro."""
    phase = positions % (2 * TEXTURE)
    return np.minimum(phase, 2 * TEXTURE - 1 - phase)


def write_level(
    file: tifffile.TiffWriter, size: int, strips: Iterator[np.ndarray], downsample: int, quality: int, colours: str
) -> None:
    """Write a level from strips of TILE rows."""
    _, tables = encode(np.zeros((TILE, TILE, 3), np.uint8), quality, colours)
    file.write(
        (tile for strip in strips for tile in encode_strip(strip, quality, colours)),
        shape=(size, size, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb" if colours == "RGB" else "ycbcr",
        subsampling=None if colours == "RGB" else (2, 2),
        compression="jpeg",
        compressionargs={"outcolorspace": "RGB"} if colours == "RGB" else None,  # else it says YCbCr
        description=f"Aperio Image Library v11.2.1\n{size}x{size} (240x240) JPEG/RGB Q={quality}"
        f"|AppMag = 40|MPP = {MPP}",
        metadata=None,
        extratags=[(347, 7, len(tables), tables, True)],
    )


def encode_strip(strip: np.ndarray, quality: int, colours: str) -> Iterator[bytes]:
    """The tiles of (≤ TILE, W, 3) uint8, those at the edges filled up."""
    height, width = strip.shape[:2]
    strip = np.pad(strip, ((0, TILE - height), (0, -width % TILE), (0, 0)), "edge")
    for x in range(0, width, TILE):
        yield encode(np.ascontiguousarray(strip[:, x : x + TILE]), quality, colours)[0]


def encode(tile: np.ndarray, quality: int, colours: str) -> tuple[bytes, bytes]:
    """A tile as JPEG without tables and without markers of its colours, and its tables."""
    form = {"outcolorspace": "RGB"} if colours == "RGB" else {"subsampling": colours}
    data = imagecodecs.jpeg8_encode(tile, level=quality, **form)
    place, tables, rest = 2, b"", b""
    while data[place + 1] != 0xDA:  # start of scan
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if data[place + 1] in TABLES:
            tables += data[place:end]
        elif data[place + 1] not in COLOUR_MARKERS:
            rest += data[place:end]
        place = end
    return data[:2] + rest + data[place:], b"\xff\xd8" + tables + b"\xff\xd9"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--size", type=int, default=20_000, help="pixels of each side (default: %(default)s)")
    parser.add_argument("--colours", choices=["RGB", "420"], default="RGB", help="default: %(default)s")
    arguments = parser.parse_args()
    make_slide(arguments.slide, arguments.size, colours=arguments.colours)
