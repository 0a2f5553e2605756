"""Read hostile inputs, each by the command that reads its kind, and print how long and how much memory it took.

    python tests/hostile.py            # all of them, some minutes
    python tests/hostile.py png json   # those with one of these words in their names

A small file can ask for much: a decompression bomb, nesting, a size that is only claimed, a file without an end. Each
command must end within 60 s (of the processor) and 4 GB, with status 0 or 2, and never in a traceback; what waits is
killed. The exit status is 0 if all did.
"""

import argparse
import importlib
import itertools
import json
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import psutil
from PIL import Image

SECONDS, MEGABYTES = 60, 4096
CORES = 4
"""That commands see, whatever this machine has: they read so many slides at once."""
CLASSES = [
    {"name": "stroma", "color": "#e8a0bf", "annotations": ["Stroma"], "mask_values": ["0"]},
    {"name": "tumour", "color": "#6a3d9a", "annotations": ["Tumor"], "mask_values": ["1-255"]},
]
SIDE = 14_000
"""Of the largest square image that is decoded as a whole."""
Words = list[str | Path]
INPUTS: dict[str, Callable[[Path], Words]] = {}
"""By name: what makes the input in a folder, and returns the command that reads it."""


def hostile(name: str) -> Callable[[Callable[[Path], Words]], Callable[[Path], Words]]:
    def add(make: Callable[[Path], Words]) -> Callable[[Path], Words]:
        INPUTS[name] = make
        return make

    return add


# Commands


def options(**patches: object) -> str:
    values = {"size": 64, "level": 0} | patches
    return json.dumps({"classes": CLASSES, "annotations": {"fill": "stroma"}, "patches": values, "strict": False})


def check(folder: Path, slides: Sequence[Path], annotation: Path | str = "", **patches: object) -> Words:
    """`stedm check` of slides, and of an annotation of the first."""
    rows = [f"s{number},p{number},{path},{'' if number else annotation}" for number, path in enumerate(slides)]
    sheet = folder / "slides.csv"
    sheet.write_text("slide,patient,path,annotation\n" + "\n".join(rows) + "\n")
    return ["check", "--options", options(**patches), "--sheet", sheet, "--out", folder / "check.csv"]


def extract(folder: Path, slide: Path) -> Words:
    wanted = json.loads(options())
    del wanted["strict"]
    row = json.dumps({"slide": "s", "patient": "p", "path": str(slide)})
    out = ["--out", folder / "s.h5", "--overview", folder / "s.png"]
    return ["patches", "extract", "--options", json.dumps(wanted), "--slide", row, *out]


def annotated(folder: Path, annotation: Path, side: int = 1000) -> Words:
    """`stedm check` of a harmless slide with an annotation."""
    return check(folder, [plain_slide(folder, side)], annotation)


def plain_slide(folder: Path, side: int = 1000) -> Path:
    path = folder / "plain.png"
    noise = np.random.default_rng(0).integers(90, 200, (side // 8, side // 8, 3), np.uint8)
    Image.fromarray(noise).resize((side, side)).save(path)
    return path


def configured(folder: Path, text: str | bytes) -> Words:
    """`stedm config check` of a study file."""
    path = folder / "study.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return ["config", "check", path]


def listed(folder: Path, pieces: Iterable[bytes]) -> Words:
    """`stedm config check` of a study whose sheet is made of pieces."""
    with (folder / "slides.csv").open("wb") as file:
        file.writelines(pieces)
    return configured(folder, STUDY.replace("slides.csv", str(folder / "slides.csv")))


STUDY = """
study: hostile
slides: {sheet: slides.csv}
classes: [{name: stroma, color: "#e8a0bf"}, {name: tumour, color: "#6a3d9a"}]
patches: {size: 64, level: 0}
splits: {annotated_patients: [1], test_patients: 1}
segmentation: {training: {steps: 1}}
arms: {real: {label: real}}
evaluation: {reference_arm: real}
"""


# Slides: bombs of each format


def deflated(zeros: int, head: bytes = b"") -> bytes:
    """A zlib stream of some bytes and many zeros, in no time: one block of zeros over and over, and its Adler-32."""

    def packed(data: bytes, last: bool = False) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(data) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)

    blocks, rest = divmod(zeros, 2**24)
    check = zlib.adler32(head)
    low, high = check & 0xFFFF, (check >> 16) + zeros * (check & 0xFFFF)
    body = packed(head) + packed(bytes(2**24)) * blocks + packed(bytes(rest), last=True)
    return b"\x78\xda" + body + struct.pack(">HH", high % 65521, low)


def blank_png(path: Path, width: int, height: int, channels: int, size: tuple[int, int] | None = None) -> Path:
    """A PNG of zeros; `size` is what it claims to be."""
    data = deflated(height * (1 + width * channels))
    kind = {1: 0, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", *(size or (width, height)), 8, kind, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in ((b"IHDR", header), (b"IDAT", data), (b"IEND", b"")):
            file.write(struct.pack(">I", len(content)) + name + content)
            file.write(struct.pack(">I", zlib.crc32(name + content)))
    return path


@hostile("slide: PNG that claims 2^31 × 10^4 px")
def _(folder: Path) -> Words:
    return check(folder, [blank_png(folder / "a.png", 9, 9, 1, (2**31 - 1, 10_000))])


@hostile("slide: PNG of 400 Mpx in 0.4 MB")
def _(folder: Path) -> Words:
    return check(folder, [blank_png(folder / "a.png", 20_000, 20_000, 1)])


@hostile("slides: four PNGs of 196 Mpx with transparency")
def _(folder: Path) -> Words:
    first = blank_png(folder / "a.png", SIDE, SIDE, 4)
    paths = [first, *(folder / f"{name}.png" for name in "bcd")]
    for number, path in enumerate(paths):
        path.write_bytes(first.read_bytes() + bytes(number))  # no copies of each other
    return check(folder, paths)


@hostile("slide: PNG of 196 Mpx with transparency, cut into patches")
def _(folder: Path) -> Words:
    return extract(folder, blank_png(folder / "a.png", SIDE, SIDE, 4))


@hostile("slide: PNG with a text of 1 GB")
def _(folder: Path) -> Words:
    path = blank_png(folder / "a.png", 100, 100, 3)
    text = b"zTXtComment\0\0" + deflated(2**30)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    path.write_bytes(path.read_bytes()[:33] + chunk + path.read_bytes()[33:])
    return check(folder, [path])


def saved(path: Path, side: int, mode: str = "RGB", **how: object) -> Path:
    Image.new(mode, (side, side)).save(path, **how)
    return path


@hostile("slide: JPEG of 4,000 Mpx")
def _(folder: Path) -> Words:
    path = saved(folder / "a.jpg", 100)
    data = path.read_bytes()
    start = data.index(b"\xff\xc0") + 5
    path.write_bytes(data[:start] + struct.pack(">HH", 65_500, 65_500) + data[start + 4 :])
    return check(folder, [path])


@hostile("slide: JPEG of 196 Mpx")
def _(folder: Path) -> Words:
    return check(folder, [saved(folder / "a.jpg", SIDE, "L")])


@hostile("slide: JPEG of 196 Mpx in CMYK")
def _(folder: Path) -> Words:
    return check(folder, [saved(folder / "a.jpg", SIDE, "CMYK")])


def many_scans(path: Path, side: int, scans: int) -> Path:
    """A progressive JPEG with its last scan over and over."""
    saved(path, side, "L", progressive=True)
    data = path.read_bytes()
    start = data.rindex(b"\xff\xda")
    path.write_bytes(data[:start] + data[start:-2] * scans + data[-2:])
    return path


@hostile("slide: progressive JPEG of 100 Mpx with 5,000 scans")
def _(folder: Path) -> Words:
    return check(folder, [many_scans(folder / "a.jpg", 10_000, 5_000)])


@hostile("slide: progressive JPEG of 196 Mpx with 90 scans")
def _(folder: Path) -> Words:
    return check(folder, [many_scans(folder / "a.jpg", SIDE, 80)])


def webp(path: Path, side: int) -> Path:
    """A WebP of one colour, of which a pixel takes no bit."""
    data = bytearray(saved(path, 16, lossless=True).read_bytes())
    start = data.index(b"VP8L") + 9  # width - 1 and height - 1, 14 bits each
    kept = int.from_bytes(data[start : start + 4], "little") >> 28
    data[start : start + 4] = ((side - 1) | (side - 1) << 14 | kept << 28).to_bytes(4, "little")
    path.write_bytes(data)
    return path


@hostile("slide: WebP of 196 Mpx in 40 bytes")
def _(folder: Path) -> Words:
    return check(folder, [webp(folder / "a.webp", SIDE)])


@hostile("slide: WebP of 268 Mpx")
def _(folder: Path) -> Words:
    return check(folder, [webp(folder / "a.webp", 16_384)])


def jpeg2000(path: Path, tile: int) -> Path:
    """A code stream of JPEG 2000 that claims 196 Mpx in tiles of a size."""
    data = bytearray(saved(path, 64).read_bytes())
    start = data.index(b"\xff\x51") + 6  # Xsiz, Ysiz, XOsiz, YOsiz, XTsiz, YTsiz
    data[start : start + 24] = struct.pack(">6I", SIDE, SIDE, 0, 0, tile, tile)
    path.write_bytes(data)
    return path


@hostile("slide: JPEG 2000 that claims one tile of 196 Mpx")
def _(folder: Path) -> Words:
    return check(folder, [jpeg2000(folder / "a.j2k", SIDE)])


@hostile("slide: JPEG 2000 of 99 Mpx, noise")
def _(folder: Path) -> Words:
    noise = np.random.default_rng(0).integers(0, 256, (9_950, 9_950, 3), np.uint8)
    path = folder / "a.j2k"
    Image.fromarray(noise).save(path, tile_size=(1024, 1024), irreversible=False)
    return check(folder, [path])


@hostile("slide: JPEG 2000 that claims 196 Mpx in 4 × 10^7 tiles")
def _(folder: Path) -> Words:
    return check(folder, [jpeg2000(folder / "a.j2k", 2)])


@hostile("slide: BMP of 196 Mpx, run lengths")
def _(folder: Path) -> Words:
    row = b"\xff\0" * (SIDE // 255) + bytes([SIDE % 255, 0]) + b"\0\0"
    data = row * SIDE + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, len(data), 0, 0, 256, 0) + bytes(1024)
    path = folder / "a.bmp"
    path.write_bytes(
        struct.pack("<2sIHHI", b"BM", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data
    )
    return check(folder, [path])


@hostile("slide: GIF, EPS and PSD by the name of a PNG")
def _(folder: Path) -> Words:
    paths = [folder / f"{name}.png" for name in ("gif", "eps", "psd")]
    saved(paths[0], 9, "P", format="GIF")
    saved(paths[1], 9, format="EPS")
    paths[2].write_bytes(b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 30_000, 30_000, 8, 3) + bytes(99))
    return check(folder, paths)


# Slides: TIFF


class Tag(NamedTuple):
    code: int
    type: int
    count: int
    value: int


SHORT, LONG = 3, 4


def raw_tiff(path: Path, pages: Sequence[Sequence[Tag]], following: Sequence[int], body: bytes = b"") -> Path:
    """A TIFF of pages whose tags hold anything; `following`: index of the page that each says is next, -1: none."""
    starts = [8]
    for tags in pages:
        starts.append(starts[-1] + 6 + 12 * len(tags))
    with path.open("wb") as file:
        file.write(struct.pack("<2sHI", b"II", 42, 8))
        for tags, after in zip(pages, following, strict=True):
            file.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags))
            file.write(struct.pack("<I", 0 if after < 0 else starts[after]))
        file.write(body)
    return path


def grey_page(width: int, height: int, *more: Tag) -> list[Tag]:
    """Tags of a grey page whose pixels are the file's first bytes."""
    tags = {
        256: Tag(256, LONG, 1, width),
        257: Tag(257, LONG, 1, height),
        258: Tag(258, SHORT, 1, 8),
        259: Tag(259, SHORT, 1, 1),
        262: Tag(262, SHORT, 1, 1),
        273: Tag(273, LONG, 1, 0),
        277: Tag(277, SHORT, 1, 1),
        278: Tag(278, LONG, 1, height),
        279: Tag(279, LONG, 1, width * height % 2**32),
    }
    return sorted((tags | {tag.code: tag for tag in more}).values())


def one_strip(path: Path, channels: int, bits: int, *more: Tag) -> Path:
    """A TIFF of zeros whose one strip is deflated."""
    data = deflated(SIDE**2 * channels * bits // 8)
    tags = grey_page(
        SIDE, SIDE, Tag(259, SHORT, 1, 8), Tag(277, SHORT, 1, channels), Tag(279, LONG, 1, len(data)), *more
    )
    start = 8 + 6 + 12 * len(tags)
    tags[[tag.code for tag in tags].index(258)] = Tag(258, SHORT, channels, start)
    tags[[tag.code for tag in tags].index(273)] = Tag(273, LONG, 1, start + 16)
    return raw_tiff(path, [tags], [-1], struct.pack("<8H", *[bits] * 8) + data)


@hostile("slide: striped TIFF of 196 Mpx, deflated")
def _(folder: Path) -> Words:
    return check(folder, [one_strip(folder / "a.tif", 3, 8, Tag(262, SHORT, 1, 2))])


@hostile("slide: striped TIFF of 196 Mpx of 16 bits with transparency")
def _(folder: Path) -> Words:
    more = Tag(262, SHORT, 1, 2), Tag(338, SHORT, 1, 2), Tag(281, SHORT, 1, 4095)
    return check(folder, [one_strip(folder / "a.tif", 4, 16, *more)])


@hostile("slide: striped TIFF of 196 Mpx in CMYK, turned")
def _(folder: Path) -> Words:
    return check(folder, [one_strip(folder / "a.tif", 4, 8, Tag(262, SHORT, 1, 5), Tag(274, SHORT, 1, 6))])


@hostile("slide: TIFF whose page follows itself")
def _(folder: Path) -> Words:
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(8, 8)], [0])])


@hostile("slide: TIFF of pages in a circle")
def _(folder: Path) -> Words:
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(8, 8)] * 3, [1, 2, 0])])


@hostile("slide: TIFF of 200,000 pages")
def _(folder: Path) -> Words:
    count = 200_000
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(8, 8)] * count, [*range(1, count), -1])])


@hostile("slide: TIFF that claims 4 × 10^9 px along each side")
def _(folder: Path) -> Words:
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(2**32 - 1, 2**32 - 1)], [-1])])


@hostile("slide: TIFF with tags of 2^32 values")
def _(folder: Path) -> Words:
    huge = [Tag(code, LONG, 2**32 - 1, 8) for code in (270, 273, 279, 320, 33432)]
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(100, 100, *huge)], [-1])])


@hostile("slide: TIFF with sub-images that lead back")
def _(folder: Path) -> Words:
    return check(folder, [raw_tiff(folder / "a.tif", [grey_page(8, 8, Tag(330, LONG, 1, 8))], [-1])])


def one_tile(path: Path, width: int, height: int, tile: int, compression: int, data: bytes, channels: int = 3) -> Path:
    """A tiled TIFF (BigTIFF) all of whose tiles are the same bytes of the file."""
    count = -(-width // tile) * -(-height // tile)
    start = 16
    tags = [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, channels, 8 + (8 << 16) * (channels > 1) + (8 << 32) * (channels > 1)),
        (259, SHORT, 1, compression),
        (262, SHORT, 1, 2 if channels > 1 else 1),
        (277, SHORT, 1, channels),
        (322, LONG, 1, tile),
        (323, LONG, 1, tile),
        (324, LONG, count, 0),
        (325, LONG, count, 0),
    ]
    places = start + 8 + 20 * len(tags) + 8
    values = {324: places, 325: places + 4 * count} if count > 2 else {324: places, 325: len(data)}
    place = places + 8 * count
    with path.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, start))
        file.write(struct.pack("<Q", len(tags)))
        for code, kind, number, value in tags:
            if code in values:
                value = values[code] if count > 2 else {324: place, 325: len(data)}[code]
            file.write(struct.pack("<HHQQ", code, kind, number, value))
        file.write(struct.pack("<Q", 0))
        file.write(struct.pack("<I", place) * count + struct.pack("<I", len(data)) * count + data)
    return path


@hostile("slide: striped TIFF of 100 × 100 px with a strip of 10 GB")
def _(folder: Path) -> Words:
    path = folder / "a.tif"
    data = deflated(10 * 2**30)
    tags = grey_page(100, 100, Tag(259, SHORT, 1, 8), Tag(279, LONG, 1, len(data)))
    start = 8 + 6 + 12 * len(tags)
    tags[[tag.code for tag in tags].index(273)] = Tag(273, LONG, 1, start)
    return check(folder, [raw_tiff(path, [tags], [-1], data)])


@hostile("slide: tiled TIFF of one tile of 1,600 Mpx, deflated")
def _(folder: Path) -> Words:
    side = 40_000
    return check(folder, [one_tile(folder / "a.tif", side, side, side, 8, deflated(3 * side**2))])


@hostile("slide: tiled TIFF with a tile of 1,600 Mpx for 100 × 100 px")
def _(folder: Path) -> Words:
    side = 40_000
    return check(folder, [one_tile(folder / "a.tif", 100, 100, side, 8, deflated(3 * side**2))])


@hostile("slide: tiled TIFF of 90,000 Mpx without other levels, all of one tile's bytes")
def _(folder: Path) -> Words:
    tile = 2048
    return check(folder, [one_tile(folder / "a.tif", 300_000, 300_000, tile, 8, deflated(3 * tile**2))])


@hostile("slide: the same, cut into patches")
def _(folder: Path) -> Words:
    tile = 2048
    return extract(folder, one_tile(folder / "a.tif", 300_000, 300_000, tile, 8, deflated(3 * tile**2)))


@hostile("slide: tiled TIFF of 10^18 px with an index for 16")
def _(folder: Path) -> Words:
    path = one_tile(folder / "a.tif", 4096, 4096, 1024, 8, deflated(3 * 1024**2))
    data = bytearray(path.read_bytes())
    for place in (24 + 12, 24 + 20 + 12):
        data[place : place + 4] = struct.pack("<I", 10**9)
    path.write_bytes(data)
    return check(folder, [path])


# Slides of several files, and what is no file


@hostile("slide: VMS whose image is /dev/zero")
def _(folder: Path) -> Words:
    return check(folder, [vms(folder, "../" * 20 + "dev/zero")])


@hostile("slide: VMS whose image is a pipe")
def _(folder: Path) -> Words:
    os.mkfifo(folder / "pipe.jpg")
    return check(folder, [vms(folder, "pipe.jpg")])


def vms(folder: Path, image: str) -> Path:
    path = folder / "a.vms"
    lines = ["[Virtual Microscope Specimen]", "NoLayers=1", "NoJpegColumns=1", "NoJpegRows=1", f"ImageFile={image}"]
    path.write_text("\n".join([*lines, f"MapFile={image}", f"OptimisationFile={image}", ""]))
    return path


@hostile("slide: MIRAX of 10^9 × 10^9 images")
def _(folder: Path) -> Words:
    path = folder / "a.mrxs"
    path.write_bytes(b"")
    (folder / "a").mkdir()
    text = "[GENERAL]\nSLIDE_VERSION=01.02\nSLIDE_ID=1\nIMAGENUMBER_X=1000000000\nIMAGENUMBER_Y=1000000000\n"
    text += "OBJECTIVE_MAGNIFICATION=20\nCameraImageDivisionsPerSide=1\n[HIERARCHICAL]\nHIER_COUNT=1\nNONHIER_COUNT=0\n"
    text += "HIER_0_NAME=Slide zoom level\nHIER_0_COUNT=1\nHIER_0_VAL_0_SECTION=L0\nINDEXFILE=Index.dat\n"
    text += "[DATAFILE]\nFILE_COUNT=1\nFILE_0=Data.dat\n[L0]\nOVERLAP_X=0\nOVERLAP_Y=0\nIMAGE_CONCAT_FACTOR=0\n"
    text += "DIGITIZER_WIDTH=256\nDIGITIZER_HEIGHT=256\nMICROMETER_PER_PIXEL_X=0.2\nMICROMETER_PER_PIXEL_Y=0.2\n"
    text += "IMAGE_FILL_COLOR_BGR=0\nIMAGE_FORMAT=JPEG\n"
    (folder / "a/Slidedat.ini").write_text(text)
    (folder / "a/Index.dat").write_bytes(b"01.021" + bytes(10_000))
    (folder / "a/Data.dat").write_bytes(bytes(10_000))
    return check(folder, [path])


@hostile("slide: pipe, socket, /dev/zero, folder, link to itself")
def _(folder: Path) -> Words:
    os.mkfifo(folder / "pipe.png")
    listen(folder / "socket.svs")
    (folder / "zero.tif").symlink_to("/dev/zero")
    (folder / "folder.ndpi").mkdir()
    (folder / "loop.scn").symlink_to("loop.scn")
    return check(folder, [path for path in sorted(folder.iterdir()) if path.suffix != ".csv"])


def listen(path: Path) -> None:
    """A socket as a file; named from its folder, as the whole path may be too long for one."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


# Annotations


def feature(rings: Sequence[Sequence[Sequence[float]]], name: str = "Tumor") -> dict[str, object]:
    geometry = {"type": "Polygon", "coordinates": rings}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def collection(path: Path, features: Iterable[dict[str, object]]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def circle(
    points: int, radius: float, step: int = 1, turn: float = 0, x: float = 500, y: float = 500
) -> list[list[float]]:
    """Points of a circle, each so many steps from the last: a star."""
    angles = (np.arange(points + 1) * step % points) * (2 * np.pi / points) + turn
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).round(3).tolist()


@hostile("annotation: GeoJSON of brackets 10^6 deep")
def _(folder: Path) -> Words:
    (folder / "a.geojson").write_text("[" * 10**6)
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: GeoJSON of objects within objects")
def _(folder: Path) -> Words:
    text = '{"type":"Feature","geometry":null,"properties":{"objectType":"root","childObjects":['
    (folder / "a.geojson").write_text(text * 300 + "]}}" * 300)
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: GeoJSON of collections within collections")
def _(folder: Path) -> Words:
    text = '{"type":"GeometryCollection","geometries":['
    (folder / "a.geojson").write_text(f'{{"type":"Feature","properties":{{}},"geometry":{text * 900}{"]}" * 900}}}')
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: a million tiny shapes (GeoJSON)")
def _(folder: Path) -> Words:
    before, after = json.dumps(feature([square(0, 0, 0)])).split(json.dumps(square(0, 0, 0)))
    corners = "[[{0},{1}],[{0}.5,{1}],[{0},{1}.5],[{0},{1}]]".format
    rings = itertools.starmap(corners, itertools.product(range(1000), range(1000)))
    features = f"{after},{before}".join(rings)
    (folder / "a.geojson").write_text(f'{{"type":"FeatureCollection","features":[{before}{features}{after}]}}')
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: 20,000 shapes within each other")
def _(folder: Path) -> Words:
    return annotated(
        folder,
        collection(folder / "a.geojson", (feature([square(n / 50, n / 50, 999 - n / 25)]) for n in range(20_000))),
    )


@hostile("annotation: 200 rings of 5,000 points within each other")
def _(folder: Path) -> Words:
    rings = (feature([circle(5_000, 490 - n)]) for n in range(200))
    return annotated(folder, collection(folder / "a.geojson", rings))


@hostile("annotation: an outline of 10^6 points")
def _(folder: Path) -> Words:
    return annotated(folder, collection(folder / "a.geojson", [feature([circle(10**6, 490)])]))


@hostile("annotation: an outline that crosses itself 12 × 10^6 times")
def _(folder: Path) -> Words:
    return annotated(folder, collection(folder / "a.geojson", [feature([circle(5_001, 490, 2_500)])]))


@hostile("annotation: 200 outlines that cross themselves 10^5 times each")
def _(folder: Path) -> Words:
    stars = (feature([circle(451, 20, 225, x=25 + 45 * (n % 20), y=25 + 45 * (n // 20))]) for n in range(200))
    return annotated(folder, collection(folder / "a.geojson", stars))


@hostile("annotation: 3,000 regions across each other")
def _(folder: Path) -> Words:
    regions = needles(3_000, "Region*")
    return annotated(folder, collection(folder / "a.geojson", [*regions, feature([square(400, 400, 200)])]))


@hostile("annotation: 20,000 holes across each other in an outline")
def _(folder: Path) -> Words:
    holes = [square(n / 50, n / 50, 300) for n in range(20_000)]
    return annotated(folder, collection(folder / "a.geojson", [feature([square(0, 0, 1000), *holes])]))


def comb(teeth: int) -> np.ndarray:
    """Corners of a comb as large as the slide."""
    x = np.linspace(0, 999, teeth)[:, None] + np.array([0, 0, 0.3, 0.3]) * 999 / teeth
    y = np.broadcast_to([990, 0, 0, 990], x.shape)
    return np.concatenate([[[0, 1000]], np.stack([x, y], 2).reshape(-1, 2), [[1000, 990], [1000, 1000], [0, 1000]]])


def combs(folder: Path, *names: str) -> Words:
    shapes = [feature([corners.tolist()], name) for corners, name in zip(both_ways(comb(5_000)), names, strict=True)]
    return annotated(folder, collection(folder / "a.geojson", [*shapes, feature([square(400, 400, 200)])]))


def both_ways(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return corners, corners[:, ::-1]


@hostile("annotation: two combs of a class across each other, 10^8 times")
def _(folder: Path) -> Words:
    return combs(folder, "Tumor", "Tumor")


@hostile("annotation: two combs as regions across each other, 10^8 times")
def _(folder: Path) -> Words:
    return combs(folder, "Region*", "Region*")


@hostile("annotation: a comb that is ignored across another, 10^8 times")
def _(folder: Path) -> Words:
    return combs(folder, "Ignore*", "Tumor")


@hostile("annotation: a comb that is cut out of another (ImageScope)")
def _(folder: Path) -> Words:
    body, hole = both_ways(comb(5_000))
    return aperio(folder, [(body, False), (hole, True)])


@hostile("annotation: a hole that crosses itself 12 × 10^6 times (ImageScope)")
def _(folder: Path) -> Words:
    return aperio(folder, [(np.array(square(0, 0, 999)), False), (np.array(circle(5_001, 490, 2_500)), True)])


def aperio(folder: Path, regions: Iterable[tuple[np.ndarray, bool]]) -> Words:
    """A layer of ImageScope with regions, and whether each is negative."""
    texts = []
    for corners, negative in regions:
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners.tolist())
        texts.append(f'<Region Type="0" NegativeROA="{int(negative)}"><Vertices>{vertices}</Vertices></Region>')
    layer = f'<Annotation Id="1" Name="Tumor"><Regions>{"".join(texts)}</Regions></Annotation>'
    (folder / "a.xml").write_text(f"<Annotations>{layer}</Annotations>")
    return annotated(folder, folder / "a.xml")


def needles(count: int, name: str) -> list[dict[str, object]]:
    """Thin shapes through the middle of the slide, in all directions."""

    def needle(turn: float) -> list[list[float]]:
        long, wide = np.array([np.cos(turn), np.sin(turn)]) * 490, np.array([-np.sin(turn), np.cos(turn)])
        return [(500 + corner).tolist() for corner in (-long, wide, long, -wide, -long)]

    return [feature([needle(turn)], name) for turn in np.linspace(0, np.pi, count, endpoint=False)]


@hostile("annotation: 3,000 shapes of a class across each other")
def _(folder: Path) -> Words:
    return annotated(folder, collection(folder / "a.geojson", needles(3_000, "Tumor")))


@hostile("annotation: 10^5 slivers from corner to corner")
def _(folder: Path) -> Words:
    slivers = (feature([[[n / 1000, 0], [999, 999 - n / 1000], [n / 1000, 1e-3]]]) for n in range(100_000))
    return annotated(folder, collection(folder / "a.geojson", slivers))


@hostile("annotation: 300,000 shapes over their neighbours")
def _(folder: Path) -> Words:
    shapes = (feature([square(n % 547 * 1.8, n // 547 * 1.8, 3)]) for n in range(299_000))
    return annotated(folder, collection(folder / "a.geojson", shapes))


@hostile("annotation: 10^8 brackets in a row (GeoJSON)")
def _(folder: Path) -> Words:
    (folder / "a.geojson").write_text("[" + "[]," * 10**8 + "[]]")
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: as many brackets as are taken (GeoJSON)")
def _(folder: Path) -> Words:
    (folder / "a.geojson").write_text("[" + '{"a":1},' * 5_990_000 + "[]]")
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: 10^8 elements in a row (XML)")
def _(folder: Path) -> Words:
    (folder / "a.xml").write_text(ASAP.format("", "<a/>" * 10**8))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: as many elements as are taken (XML)")
def _(folder: Path) -> Words:
    (folder / "a.xml").write_text(ASAP.format("", '<a b="1"/>' * 4_280_000))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: GeoJSON of 100 GB, sparse")
def _(folder: Path) -> Words:
    with (folder / "a.geojson").open("wb") as file:
        file.truncate(10**11)
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: coordinates of 10^308, NaN, infinity and 10^5000")
def _(folder: Path) -> Words:
    texts = ["1e308", "NaN", "-Infinity", "1" + "0" * 5000]
    rings = ",".join(json.dumps(feature([square(0, 0, 7)])).replace("7.", text).replace("7", text) for text in texts)
    (folder / "a.geojson").write_text(f'{{"type":"FeatureCollection","features":[{rings}]}}')
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: thin shapes across the slide, 10^5 of them")
def _(folder: Path) -> Words:
    thin = (feature([[[0, n / 100], [1000, n / 100], [1000, n / 100 + 1e-6], [0, n / 100]]]) for n in range(100_000))
    return annotated(folder, collection(folder / "a.geojson", thin))


def coco(path: Path, side: int, segmentations: Iterable[object]) -> Path:
    data = {
        "images": [{"id": 1, "file_name": "plain.png"}],
        "categories": [{"id": 1, "name": "Tumor"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": item} for item in segmentations],
    }
    path.write_text(json.dumps(data))
    return path


@hostile("annotation: COCO, run lengths of 10^18")
def _(folder: Path) -> Words:
    lengths = {"size": [1000, 1000], "counts": [10**18, 1, -(10**18), 999_999]}
    return annotated(folder, coco(folder / "a.json", 1000, [lengths]))


@hostile("annotation: COCO, a chequerboard of run lengths")
def _(folder: Path) -> Words:
    side = 2001
    return annotated(folder, coco(folder / "a.json", side, [{"size": [side, side], "counts": [1] * side**2}]), side)


@hostile("annotation: COCO, 2,000 times run lengths of the whole slide")
def _(folder: Path) -> Words:
    side = 10_000
    lengths = {"size": [side, side], "counts": [0, side**2]}
    return annotated(folder, coco(folder / "a.json", side, [lengths] * 2_000), side)


@hostile("annotation: COCO, compressed run lengths of 10^7 characters")
def _(folder: Path) -> Words:
    return annotated(folder, coco(folder / "a.json", 1000, [{"size": [1000, 1000], "counts": "o" * 10**7}]))


ASAP = '<?xml version="1.0"?>\n{}<ASAP_Annotations><Annotations>{}</Annotations></ASAP_Annotations>'


@hostile("annotation: XML with a billion laughs")
def _(folder: Path) -> Words:
    entities = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(9))
    doctype = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]>'
    (folder / "a.xml").write_text(ASAP.format(doctype, "&a9;"))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: XML with entities of files and of the network")
def _(folder: Path) -> Words:
    doctype = '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd" [<!ENTITY a SYSTEM "file:///dev/zero">]>'
    (folder / "a.xml").write_text(ASAP.format(doctype, "&a;"))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: XML of elements 10^6 deep")
def _(folder: Path) -> Words:
    (folder / "a.xml").write_text(ASAP.format("", "<a>" * 10**6 + "</a>" * 10**6))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: ASAP outline of 10^6 points")
def _(folder: Path) -> Words:
    points = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(circle(10**6, 490)))
    shape = f'<Annotation Type="Polygon" PartOfGroup="Tumor"><Coordinates>{points}</Coordinates></Annotation>'
    (folder / "a.xml").write_text(ASAP.format("", shape))
    return annotated(folder, folder / "a.xml")


@hostile("annotation: mask (PNG) of 10^12 px")
def _(folder: Path) -> Words:
    return annotated(folder, blank_png(folder / "a.png", 9, 9, 1, (10**6, 10**6)))


@hostile("annotation: mask (TIFF) of 1,600 Mpx for a slide as large")
def _(folder: Path) -> Words:
    side, tile = 40_000, 2048
    slide = one_tile(folder / "s.tif", side, side, tile, 8, deflated(3 * tile**2))
    mask = one_tile(folder / "a.tif", side, side, tile, 8, deflated(tile**2), channels=1)
    return check(folder, [slide], mask)


def grey_strip(path: Path, bits: int, pages: int = 1) -> Path:
    """A TIFF of pages that are all the same 196 Mpx of zeros."""
    data = deflated(SIDE**2 * bits // 8)
    more = Tag(258, SHORT, 1, bits), Tag(259, SHORT, 1, 8), Tag(279, LONG, 1, len(data))
    page = grey_page(SIDE, SIDE, *more)
    start = 8 + pages * (6 + 12 * len(page))
    page[[tag.code for tag in page].index(273)] = Tag(273, LONG, 1, start)
    return raw_tiff(path, [page] * pages, [*range(1, pages), -1], data)


@hostile("annotation: four masks of 196 Mpx and 32 bits at once")
def _(folder: Path) -> Words:
    rows = []
    for number in range(4):
        slide = one_tile(folder / f"s{number}.tif", SIDE, SIDE, 2048, 8, deflated(3 * 2048**2) + bytes(number))
        rows.append(f"s{number},p{number},{slide},{grey_strip(folder / f'm{number}.tif', 32)}\n")
    words = check(folder, [])
    (folder / "slides.csv").write_text("slide,patient,path,annotation\n" + "".join(rows))
    return words


@hostile("annotation: mask (TIFF) of 9,999 equal pages of 196 Mpx")
def _(folder: Path) -> Words:
    slide = one_tile(folder / "s.tif", SIDE, SIDE, 2048, 8, deflated(3 * 2048**2))
    return check(folder, [slide], grey_strip(folder / "a.tif", 8, 9_999))


@hostile("annotation: workbook, pipe and folder by the names of annotations")
def _(folder: Path) -> Words:
    (folder / "a.geojson").mkdir()
    return annotated(folder, folder / "a.geojson")


@hostile("annotation: endless device (/dev/zero)")
def _(folder: Path) -> Words:
    (folder / "a.xml").symlink_to("/dev/zero")
    return annotated(folder, folder / "a.xml")


# Sheets and configurations


HEADER = b"slide,patient,path,annotation\n"


@hostile("sheet: a million columns")
def _(folder: Path) -> Words:
    return listed(folder, [b"slide,patient,path," + b",".join(b"c%d" % n for n in range(10**6)), b"\n", b"," * 10**6])


@hostile("sheet: a line of 1 GB")
def _(folder: Path) -> Words:
    return listed(folder, [HEADER, *[b"a" * 2**20] * 1024])


@hostile("sheet: quotation marks that never close")
def _(folder: Path) -> Words:
    return listed(folder, [HEADER, b'"', *[b"a,\n" * 2**18] * 40])


@hostile("sheet: zero bytes")
def _(folder: Path) -> Words:
    return listed(folder, [HEADER, bytes(2**26)])


@hostile("sheet: a million wrong rows")
def _(folder: Path) -> Words:
    return listed(folder, [HEADER, *[b"a b,c d,x,\n"] * 10**6])


@hostile("sheet: workbook (XLSX) of 256 MB, zipped")
def _(folder: Path) -> Words:
    import zipfile

    with zipfile.ZipFile(folder / "bomb.xlsx", "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("xl/worksheets/sheet1.xml", bytes(2**28))
    return listed(folder, [(folder / "bomb.xlsx").read_bytes()])


@hostile("sheet: pipe")
def _(folder: Path) -> Words:
    os.mkfifo(folder / "pipe.csv")
    return configured(folder, STUDY.replace("slides.csv", str(folder / "pipe.csv")))


@hostile("configuration: aliases that stand for 10^12 values")
def _(folder: Path) -> Words:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 13))]
    return configured(folder, "\n".join(lines))


@hostile("configuration: merged aliases")
def _(folder: Path) -> Words:
    lines = ["a0: &a0 {k: v}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 13))]
    return configured(folder, "\n".join(lines))


@hostile("configuration: brackets 10^6 deep")
def _(folder: Path) -> Words:
    return configured(folder, "[" * 10**6)


@hostile("configuration: 40 MB of keys")
def _(folder: Path) -> Words:
    return configured(folder, "".join(f"key{n}: value\n" for n in range(2_000_000)))


@hostile("configuration: a number to base 60 of 300,000 digits")
def _(folder: Path) -> Words:
    return configured(folder, STUDY + "seed: 1" + ":59" * 300_000)


@hostile("configuration: a date that is none, a number of 10^5 digits")
def _(folder: Path) -> Words:
    return configured(folder, STUDY + f"seed: {'9' * 10**5}\nstrict: 2001-99-99\n")


@hostile("configuration: 10^9 repeats, shards and mask values")
def _(folder: Path) -> Words:
    text = STUDY.replace("test_patients: 1", "test_patients: 1, repeats: 1000000000")
    text += "synthesis: {images: 1000000000000, shards: 1000000000}\n"
    return configured(folder, text.replace('"#6a3d9a"', '"#6a3d9a", mask_values: [0-1000000000000000000]'))


@hostile("configuration: infinite resolution")
def _(folder: Path) -> Words:
    return check(folder, [plain_slide(folder)], size=64, level=None, mpp=float("inf"))


@hostile("configuration: zero bytes, /dev/zero")
def _(folder: Path) -> Words:
    (folder / "study.yaml").symlink_to("/dev/zero")
    return ["config", "check", folder / "study.yaml"]


@hostile("QuPath project: nested 10^5 deep")
def _(folder: Path) -> Words:
    (folder / "a.qpproj").write_text('{"images":' + "[" * 10**5)
    return ["sheet", "qupath", "--folder", folder, "--out", folder / "out.csv"]


@hostile("MATLAB file: 2 GB of zeros, deflated")
def _(folder: Path) -> Words:
    size = 2**31 - 1024
    matrix = struct.pack("<II", 14, size) + struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<IIii", 5, 8, 1, size - 64)
    matrix += struct.pack("<II8s", 1, 6, b"labels") + struct.pack("<II", 2, size - 64)
    data = deflated(size - len(matrix) + 8, matrix)
    head = b"MATLAB 5.0".ljust(124) + struct.pack("<H2s", 0x0100, b"IM")
    (folder / "imagelabels.mat").write_bytes(head + struct.pack("<II", 15, len(data)) + data)
    return ["sheet", "flowers102", "--folder", folder, "--out", folder / "out.csv"]


# HDF5


def coords(folder: Path, make: Callable[[h5py.File], None]) -> Words:
    """`stedm check` with a file of coordinates."""
    (folder / "coords").mkdir()
    with h5py.File(folder / "coords/s0.h5", "w") as file:
        make(file)
        if "coords" in file and isinstance(file.get("coords", getlink=True), h5py.HardLink):
            file["coords"].attrs.update(patch_size=64, downsample=1.0)
    return check(folder, [plain_slide(folder)], coords=str(folder / "coords"))


@hostile("coordinates: 2^37 rows")
def _(folder: Path) -> Words:
    return coords(folder, lambda file: file.create_dataset("coords", (2**37, 2), "i8", chunks=(64, 2)))


@hostile("coordinates: 1 GB of zeros, deflated twice")
def _(folder: Path) -> Words:
    rows = 2**26

    def make(file: h5py.File) -> None:
        data = file.create_dataset("coords", (rows, 2), "i8", chunks=(2**20, 2), compression="gzip")
        for start in range(0, rows, 2**20):
            data[start : start + 2**20] = 0

    return coords(folder, make)


@hostile("coordinates: a chunk of 4 GB for a row")
def _(folder: Path) -> Words:
    def make(file: h5py.File) -> None:
        file.create_dataset("coords", (1, 2), "i8", chunks=(2**28 - 1, 2), maxshape=(None, 2), compression="gzip")
        file["coords"].id.write_direct_chunk((0, 0), deflated(16 * (2**28 - 1)))

    return coords(folder, make)


@hostile("coordinates: a chunk of 16 KB that unpacks to 10 GB")
def _(folder: Path) -> Words:
    def make(file: h5py.File) -> None:
        file.create_dataset("coords", (1024, 2), "i8", chunks=(1024, 2), maxshape=(None, 2), compression="gzip")
        file["coords"].id.write_direct_chunk((0, 0), deflated(10 * 2**30))

    return coords(folder, make)


@hostile("coordinates: in another file, by an external link")
def _(folder: Path) -> Words:
    return coords(folder, lambda file: file.__setitem__("coords", h5py.ExternalLink("/etc/hostname", "/x")))


@hostile("coordinates: in /dev/zero, by external storage")
def _(folder: Path) -> Words:
    return coords(folder, lambda file: file.create_dataset("coords", (100, 2), "i8", external=[("/dev/zero", 0, 1600)]))


@hostile("coordinates: groups within groups that lead back")
def _(folder: Path) -> Words:
    def make(file: h5py.File) -> None:
        file["coords"] = file["/"]

    return coords(folder, make)


@hostile("coordinates: texts, compounds and references in place of numbers")
def _(folder: Path) -> Words:
    return coords(folder, lambda file: file.create_dataset("coords", data=np.array(["a" * 9, "b"], "S9")))


def splits(folder: Path, make: Callable[[h5py.File], None]) -> Words:
    """`stedm splits make` with a patch file, sealed as a stranger can."""
    from stedm.hdf5 import ATTRIBUTES, SEAL, seal

    slide = plain_slide(folder)
    check(folder, [slide])
    (folder / "patches").mkdir()
    with h5py.File(folder / "patches/s0.h5", "w") as file:
        about = {"slide": "s0", "patient": "p0", "group": "", "status": "ok", "patch_size": 1024, "fingerprint": "x"}
        about["class_names"] = ["stroma", "tumour"]  # type: ignore[assignment]
        file[ATTRIBUTES] = np.frombuffer(json.dumps(about).encode(), np.uint8)
        for name, shape in {"coords": (1, 2), "tissue": (1,), "class_fractions": (1, 2)}.items():
            file[name] = np.zeros(shape)
        file["checksums"] = np.zeros((1, 2), "u4")
        make(file)
        file[SEAL] = np.frombuffer(seal(file), np.uint8)
    wanted = {"splits": {"source": "random", "test_patients": 1}, "annotated_patients": 1, "repeat": 0, "seed": 0}
    wanted |= {"strict": False, "scored_classes": ["tumour"]}
    where = ["--sheet", folder / "slides.csv", "--patches", folder / "patches", "--out", folder / "split.csv"]
    return ["splits", "make", "--options", json.dumps(wanted), *where]


@hostile("patch file: images in a chunk of 4 GB")
def _(folder: Path) -> Words:
    def make(file: h5py.File) -> None:
        file["labels"] = np.zeros((1, 1024, 1024), np.uint8)
        chunk = 1365, 1024, 1024, 3
        file.create_dataset(
            "imgs", (1, *chunk[1:]), "u1", chunks=chunk, maxshape=(None, *chunk[1:]), compression="gzip"
        )
        file["imgs"].id.write_direct_chunk((0, 0, 0, 0), deflated(int(np.prod(chunk, dtype=np.int64))))

    return splits(folder, make)


@hostile("patch file: 10^12 images")
def _(folder: Path) -> Words:
    def make(file: h5py.File) -> None:
        for name, more in (("imgs", (1024, 1024, 3)), ("labels", (1024, 1024))):
            file.create_dataset(name, (10**12, *more), "u1", chunks=(1, *more))
        del file["checksums"]
        file.create_dataset("checksums", (10**12, 2), "u4", chunks=(2**16, 2), fletcher32=True)

    return splits(folder, make)


@hostile("patch file: pipe")
def _(folder: Path) -> Words:
    words = splits(folder, lambda file: None)
    (folder / "patches/s0.h5").unlink()
    os.mkfifo(folder / "patches/s0.h5")
    return words


# Tables, models and predictions


def statistics(folder: Path, pieces: Iterable[bytes]) -> Words:
    """`stedm splits make` with a table of `stedm check`."""
    words = splits(folder, lambda file: file.update(PIXELS))
    with (folder / "check.csv").open("wb") as file:
        file.writelines(pieces)
    return [*words, "--check", folder / "check.csv"]


PIXELS = {"imgs": np.zeros((1, 1024, 1024, 3), np.uint8), "labels": np.zeros((1, 1024, 1024), np.uint8)}


@hostile("table: a million columns")
def _(folder: Path) -> Words:
    return statistics(folder, [b"slide,patient,status,problem," + b",".join(b"c%d" % n for n in range(10**6)), b"\n"])


@hostile("table: a line of 1 GB")
def _(folder: Path) -> Words:
    return statistics(folder, [b"slide,patient,status,problem,split\n", *[b"a" * 2**20] * 1024])


@hostile("table: pipe")
def _(folder: Path) -> Words:
    words = statistics(folder, [])
    (folder / "check.csv").unlink()
    os.mkfifo(folder / "check.csv")
    return words


def predict(folder: Path, change: Callable[[Path], None]) -> Words:
    """`stedm predict` with a network that a stranger changed."""
    import segmentation_models_pytorch as smp
    import tiny

    model = folder / "model"
    model.mkdir()
    network = smp.Unet("tu-test_resnet", encoder_weights=None, encoder_depth=3, decoder_channels=[16, 8, 8], classes=2)
    tiny.save_network(network, model)
    change(model)
    return ["predict", plain_slide(folder), "--model", model, "--out", folder / "out"]


def overwrite(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def edit(path: Path, **values: object) -> None:
    overwrite(path, json.dumps(json.loads(path.read_text()) | values).encode())


@hostile("model: safetensors with a header of 2^60 bytes")
def _(folder: Path) -> Words:
    return predict(folder, lambda model: overwrite(model / "model.safetensors", struct.pack("<Q", 2**60) + b"{}"))


@hostile("model: safetensors with a header 10^5 deep")
def _(folder: Path) -> Words:
    head = b'{"a":' * 10**5
    return predict(folder, lambda model: overwrite(model / "model.safetensors", struct.pack("<Q", len(head)) + head))


@hostile("model: safetensors that claims a tensor of 2^60 values")
def _(folder: Path) -> Words:
    head = json.dumps({"a": {"dtype": "F32", "shape": [2**60], "data_offsets": [0, 2**62]}}).encode()
    return predict(folder, lambda model: overwrite(model / "model.safetensors", struct.pack("<Q", len(head)) + head))


@hostile("model: config.json 10^5 deep")
def _(folder: Path) -> Words:
    return predict(folder, lambda model: overwrite(model / "config.json", b"[" * 10**5))


@hostile("model: config.json with a decoder of 4,096 channels")
def _(folder: Path) -> Words:
    return predict(folder, lambda model: edit(model / "config.json", decoder_channels=[4096] * 3))


@hostile("model: config.json with an encoder of 5 × 10^9 parameters")
def _(folder: Path) -> Words:
    return predict(folder, lambda model: edit(model / "config.json", encoder_name="tu-eva02_enormous_patch14_clip_224"))


@hostile("model: config.json with another large encoder")
def _(folder: Path) -> Words:
    return predict(folder, lambda model: edit(model / "config.json", encoder_name="tu-convnext_xxlarge"))


@hostile("model: pipe, socket and /dev/zero in place of its files")
def _(folder: Path) -> Words:
    def change(model: Path) -> None:
        (model / "model.safetensors").unlink()
        (model / "model.safetensors").symlink_to("/dev/zero")
        os.mkfifo(model / "pipe.json")
        listen(model / "socket.json")

    return predict(folder, change)


@hostile("predict: PNG of 196 Mpx with transparency")
def _(folder: Path) -> Words:
    *words, _, _ = predict(folder, lambda model: None)
    return [words[0], blank_png(folder / "a.png", SIDE, SIDE, 4), *words[2:], "--out", folder / "out", "--mpp", "0.02"]


@hostile("predict: tiled TIFF of 90,000 Mpx, all of one tile's bytes")
def _(folder: Path) -> Words:
    words = predict(folder, lambda model: None)
    slide = one_tile(folder / "a.tif", 300_000, 300_000, 2048, 8, deflated(3 * 2048**2))
    return [words[0], slide, *words[2:], "--mpp", "0.5"]


@hostile("predict: a study's JSON beside the slide, nested 10^5 deep")
def _(folder: Path) -> Words:
    words = predict(folder, lambda model: None)
    (folder / "out").mkdir()
    for ending in ("json", "tif", "geojson"):
        (folder / f"out/plain.prediction.{ending}").write_text("[" * 10**5)
    return words


def generator(folder: Path, change: Callable[[Path], None]) -> Words:
    """`stedm style-bank embed` with a first stage or generator that a stranger made."""
    from stedm.first_stage import PixelFirstStage

    PixelFirstStage(2).save_pretrained(folder / "stage")
    change(folder / "stage")
    words = splits(folder, lambda file: file.update(PIXELS))
    (folder / "split.csv").write_text("slide,patient,group,role,labelled\ns0,p0,,annotated,True\n")
    where = ["--split", folder / "split.csv", "--patches", words[words.index("--patches") + 1]]
    wanted = json.dumps({"device": {}, "canonical": False})
    return ["first-stage", "encode", "--options", wanted, "--model", folder / "stage", *where, "--out", folder / "out"]


@hostile("first stage: config.json with blocks of 1,024 px")
def _(folder: Path) -> Words:
    return generator(folder, lambda stage: edit(stage / "config.json", factor=1024))


@hostile("first stage: config.json with 10^6 channels")
def _(folder: Path) -> Words:
    def change(stage: Path) -> None:
        values = {"_class_name": "AutoencoderKL", "block_out_channels": [2**20], "latent_channels": 2**20}
        overwrite(stage / "config.json", json.dumps(values).encode())

    return generator(folder, change)


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    seconds: float
    megabytes: float
    last: str
    traceback: bool

    @property
    def fine(self) -> bool:
        return self.status in (0, 2) and self.seconds <= SECONDS and self.megabytes <= MEGABYTES and not self.traceback


def limit() -> None:
    """So that a command which fails takes neither all of this machine's memory nor hours."""
    resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (2 * SECONDS, 2 * SECONDS))


def spent_by(pid: int) -> float:
    """Seconds of the processor."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def run(words: Words, log: Path) -> Outcome:
    """Run a `stedm` command in a process of its own, a copy of this one so that it need not import all anew."""
    from stedm.cli import main as stedm

    sys.stdout.flush()
    if not (child := os.fork()):
        os.cpu_count = lambda: CORES
        sys.stdout = sys.stderr = output = log.open("w")
        for descriptor in (1, 2):  # libraries write there
            os.dup2(output.fileno(), descriptor)
        limit()
        status = 1
        try:
            status = stedm([str(word) for word in words])
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            output.flush()
            os._exit(status)
    start, spent = time.monotonic(), -1.0
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        if time.monotonic() - start > SECONDS:  # does it wait, or is the machine busy?
            before, spent, start = spent, spent_by(child), time.monotonic()
            if spent - before < 0.1:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.05)
    _, status, usage = ended
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    trace = any(line.startswith(("Traceback", "Fatal Python")) for line in lines)
    seconds = usage.ru_utime + usage.ru_stime
    said = [line for line in lines if not line.endswith("no slide can be used")]
    return Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024, (said or lines)[-1], trace)


def attempt(name: str, folder: Path) -> Outcome:
    """Make an input in an empty folder, and read it."""
    folder.mkdir(parents=True)
    return run(INPUTS[name](folder), folder / "log")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="of names of inputs (all)")
    parser.add_argument("--folder", type=Path, help="empty folder to work in, kept (without: a temporary one)")
    args = parser.parse_args(argv)
    for module in ("slides.check", "slides.patches", "splits", "segmentation.predict"):
        importlib.import_module(f"stedm.{module}")  # once, and not in each copy of this process
    chosen = [name for name in INPUTS if not args.words or any(word.lower() in name.lower() for word in args.words)]
    wrong = 0
    most = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as temporary:
        for number, name in enumerate(chosen):
            folder = (args.folder or Path(temporary)) / str(number)
            found = attempt(name, folder)
            wrong += not found.fine
            most = [max(pair) for pair in zip(most, found[1:3], strict=True)]
            shown = found.last.replace(str(folder), "")[:150]
            mark = " " if found.fine else "!"
            print(
                f"{mark} {found.status:4} {found.seconds:6.1f} s {found.megabytes:6.0f} MB  {name} | {shown}",
                flush=True,
            )
            if not args.folder:
                shutil.rmtree(folder)
    print(f"{len(chosen)} inputs, at most {most[0]:.1f} s and {most[1]:.0f} MB; {wrong} not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
