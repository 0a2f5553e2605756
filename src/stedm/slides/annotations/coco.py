"""COCO JSON (https://cocodataset.org/#format-data): polygons and run lengths of many images in one file."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stedm.config import normalised
from stedm.errors import UserError
from stedm.slides.annotations.shapes import UNCLASSIFIED, Contents, NamedShape, colour_of, outline, reading

NUMBER = re.compile(rb"[P-o]{0,6}[0-O]")
"""A number of compressed run lengths: characters of 5 bits each, and a sixth that says that more follow."""
MOST_RUNS = 1_000_000
"""Run lengths of an annotation."""


def is_coco(data: Any) -> bool:
    return isinstance(data, dict) and "images" in data and "annotations" in data


def read_coco(path: Path, data: dict[str, Any], image: str, dimensions: tuple[int, int]) -> Contents:
    """The annotations of one image.

    Args:
        path: of the file, for messages.
        data: the parsed JSON.
        image: file name of the slide, by which it is found.
        dimensions: (width, height) of the slide's level 0.

    Raises:
        UserError: it has no such image, or one of another size, or an annotation makes no sense.
    """
    for key in ("images", "annotations", "categories"):
        entries = data.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(f"{path}: is COCO, but `{key}` is not a list of objects; export it again")
    number = find_image(path, data["images"], image, dimensions)
    images, categories = by_id(path, data, "images"), by_id(path, data, "categories")
    contents = Contents([])
    for count, entry in enumerate(data["annotations"], start=1):
        its_image = text_of(entry.get("image_id"))
        contents.lost["annotation of an image that the file does not list"] += its_image not in images
        if its_image != number:
            continue
        with reading(path, where := f"annotation {entry.get('id', count)} of image {number}"):
            category = categories.get(text_of(entry.get("category_id")), {"name": unknown_category(entry)})
            geometry = geometry_of(entry.get("segmentation"), dimensions)
            name = normalised(str(category["name"]))
            contents.shapes.append(NamedShape(where, name, geometry, colour_of(category)))
    return contents


def by_id(path: Path, data: dict[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """The images or categories by their `id`.

    Raises:
        UserError: two have the same.
    """
    ids = [text_of(entry.get("id")) for entry in data[key]]
    if twice := [text for text, count in Counter(ids).items() if count > 1]:
        raise UserError(f"{path}: two of its `{key}` have the id {twice[0]}; give each its own, and export again")
    return dict(zip(ids, data[key], strict=True))


def unknown_category(entry: dict[str, Any]) -> str:
    """What shapes are called whose category the file does not list: unknown classes, for the user to decide on."""
    number = entry.get("category_id")
    return UNCLASSIFIED if number is None else f"category {text_of(number)}"


def text_of(number: Any) -> str:
    """An `id` as it is compared: some programs write 7 in one place, and "7" or 7.0 in another."""
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def find_image(path: Path, images: list[dict[str, Any]], name: str, dimensions: tuple[int, int]) -> str:
    """The `id` of the image with a file name; where none has it, with that name but for the ending."""
    name = normalised(name)
    names = [PurePosixPath(normalised(str(entry.get("file_name", ""))).replace("\\", "/")) for entry in images]
    same = [entry for entry, other in zip(images, names, strict=True) if other.name == name]
    same = same or [entry for entry, other in zip(images, names, strict=True) if other.stem == PurePosixPath(name).stem]
    if len(same) != 1:
        known = ", ".join(map(str, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        count = "no image has" if not same else f"{len(same)} images have"
        raise UserError(
            f"{path}: {count} the file name {name!r} of the slide; it has {known or 'no images'}. Rename the slide, or"
            " correct `file_name` in the file"
        )
    size = same[0].get("width"), same[0].get("height")
    if None not in size and size != dimensions:
        raise UserError(
            f"{path}: the image {name!r} is {size[0]} × {size[1]} px in the file, the slide {dimensions[0]} ×"
            f" {dimensions[1]}. Is it another resolution's annotation? Export it again in level-0 pixels"
        )
    return text_of(same[0].get("id"))


def geometry_of(segmentation: Any, dimensions: tuple[int, int]) -> BaseGeometry | None:
    """A segmentation's geometry: a list of outlines, one outline (as CATCH has it), or run lengths."""
    if not segmentation:
        return None
    if isinstance(segmentation, dict):
        return area_of_runs(runs_of(segmentation, dimensions), dimensions[1])
    if isinstance(segmentation[0], list):
        return shapely.geometrycollections([outline(item) for item in segmentation])
    return outline(segmentation)


def runs_of(segmentation: dict[str, Any], dimensions: tuple[int, int]) -> np.ndarray:
    """Run lengths, compressed or not, as first and last + 1 of the pixels of each run (N, 2), column by column."""
    counts, (height, width) = segmentation["counts"], segmentation["size"]
    if (width, height) != dimensions:
        raise ValueError(
            f"its run lengths are of {width} × {height} px, the slide has {dimensions[0]} × {dimensions[1]}"
        )
    if len(counts) > MOST_RUNS:
        raise ValueError(f"has more than {MOST_RUNS:,} run lengths: give a mask (PNG or TIFF) or polygons instead")
    if isinstance(counts, str):
        counts = decompressed(counts.encode("ascii"))
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != width * height:
        raise ValueError("its run lengths do not cover the image")
    ends = np.cumsum(counts, dtype=np.int64)[: len(counts) // 2 * 2]  # not set first, then set, and so on
    runs = ends.reshape(-1, 2)
    return runs[runs[:, 0] < runs[:, 1]]


def decompressed(text: bytes) -> list[int]:
    """Run lengths of compressed ones.

    As rleFrString of pycocotools, whose masks hold arbitrary values where run lengths fall short of the image: it does
    not show them to be checked. The lowest 5 bits come first, the highest bit is the sign; from the fourth number on,
    each is the difference to the one before the last.
    """
    numbers = NUMBER.findall(text)
    if b"".join(numbers) != text:
        raise ValueError("its compressed run lengths are broken")
    counts: list[int] = []
    for characters in numbers:
        bits = [(character - 48) & 31 for character in characters]
        number = sum(five << (5 * place) for place, five in enumerate(bits))
        negative = bits[-1] & 16
        before = counts[-2] if len(counts) > 2 else 0
        counts.append(before + number - (negative and 1 << (5 * len(bits))))
    return counts


def area_of_runs(runs: np.ndarray, height: int) -> BaseGeometry:
    """The area of runs (N, 2) of pixels, column by column, along the pixels' edges."""
    (first, top), (last, bottom) = (np.divmod(ends, height) for ends in (runs[:, 0], runs[:, 1] - 1))
    within = first == last
    floor = np.zeros_like(first)
    boxes = [
        shapely.box(first, top, first + 1, np.where(within, bottom + 1, height)),
        shapely.box(last, floor, last + 1, bottom + 1)[~within],
        shapely.box(first + 1, floor, last, floor + height)[last > first + 1],
    ]
    return shapely.union_all(np.concatenate(boxes))
