"""What slides and annotations say of themselves: size, scale, reader; names, colours, areas and sizes of structures."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import shapely
from PIL import Image
from tqdm import tqdm

from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides.annotations.mask import mask_place, read_values
from stedm.slides.annotations.read import collector_paused, read_contents
from stedm.slides.annotations.shapes import polygons_of
from stedm.slides.open import open_slide

THREADS = 4
INSTANCES = 16
"""A mask with more values than these numbers single objects."""
LARGEST = 2**24
"""Pixels of a mask in which connected pieces are looked for; of a larger one each second, third … pixel is taken."""
Key = TypeVar("Key", str, int)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Facts:
    """What a slide says of itself.

    Attributes:
        width: of level 0, in pixels.
        height: likewise.
        mpp: µm per level-0 pixel, or None.
        reader: who opens it.
        image: it is an ordinary image, no pyramid of a scanner.
    """

    width: int
    height: int
    mpp: float | None
    reader: str
    image: bool


@dataclass
class Structures:
    """All shapes of one name, or all pixels of one value of masks.

    Attributes:
        colour: "#rrggbb", or "" where the files have none.
        area: in level-0 pixels.
        count: of the pieces.
        diameters: of circles as large as each piece: in µm, or in level-0 pixels where slides have no scale.
        slides: on which it is.
    """

    colour: str = ""
    area: float = 0.0
    count: int = 0
    diameters: list[np.ndarray] = field(default_factory=list)
    slides: set[str] = field(default_factory=set)

    @property
    def diameter(self) -> float:
        """That of the piece in which half of the area is reached, from the smallest on: crumbs do not count."""
        sizes = np.sort(np.concatenate(self.diameters)) if self.diameters else np.zeros(0)
        if not len(sizes):
            return 0.0
        share = np.cumsum(sizes**2)
        return float(sizes[np.searchsorted(share, share[-1] / 2)])


@dataclass
class Annotated:
    """What the annotations of a study hold.

    Attributes:
        shapes: by name, of files with outlines.
        values: by value, of masks.
        instances: masks number single objects.
        around: names of shapes that lie around shapes of other names.
        formats: number of files by format.
        broken: files that cannot be read, with the reason, by slide.
    """

    shapes: dict[str, Structures] = field(default_factory=dict)
    values: dict[int, Structures] = field(default_factory=dict)
    instances: bool = False
    around: set[str] = field(default_factory=set)
    formats: dict[str, int] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


class Outlines(NamedTuple):
    """One file of outlines: structures by name, and the names of shapes that lie around others of other names."""

    format: str
    structures: dict[str, Structures]
    around: set[str]


class Mask(NamedTuple):
    """One mask: structures by value, and whether the values number single objects."""

    format: str
    structures: dict[int, Structures]
    instances: bool


def open_all(slides: Mapping[str, Path]) -> tuple[dict[str, Facts], dict[str, str]]:
    """Open each slide.

    Returns:
        What each says by its name, and why those that are missing there cannot be opened.
    """

    def look(name: str) -> Facts | str:
        try:
            with open_slide(Slide(name, name, slides[name])) as opened:
                image = not opened.reader.startswith("openslide")
                return Facts(*opened.dimensions, opened.mpp, opened.reader, image)
        except UserError as error:
            return error.messages[0]
        except OSError as error:
            return f"{slides[name]}: cannot be read ({error.strerror})"

    looked = in_threads(look, list(slides), "Opening slides")
    facts = {name: found for name, found in looked.items() if isinstance(found, Facts)}
    return facts, {name: found for name, found in looked.items() if isinstance(found, str)}


def read_all(slides: Mapping[str, Path], annotations: Mapping[str, Path], facts: Mapping[str, Facts]) -> Annotated:
    """Read the annotations of the slides that could be opened."""
    found = Annotated()

    def read(name: str) -> Outlines | Mask | str:
        path, fact = annotations[name], facts[name]
        try:
            if path.suffix.lower() in (".png", ".tif", ".tiff"):
                return read_mask(path, name, fact)
            return read_outlines(path, name, slides[name].name, fact)
        except UserError as error:
            return error.messages[0]

    with collector_paused():
        answers = in_threads(read, [name for name in annotations if name in facts], "Reading annotations")
    for name, answer in answers.items():
        if isinstance(answer, str):
            found.broken[name] = answer
            continue
        found.formats[answer.format] = found.formats.get(answer.format, 0) + 1
        if isinstance(answer, Outlines):
            join(found.shapes, answer.structures)
            found.around |= answer.around
        else:
            join(found.values, answer.structures)
            found.instances |= answer.instances
    return found


def join(all: dict[Key, Structures], one: Mapping[Key, Structures]) -> None:
    """Add what one file holds."""
    for key, item in one.items():
        known = all.setdefault(key, Structures())
        known.colour = known.colour or item.colour
        known.area += item.area
        known.count += item.count
        known.diameters += item.diameters
        known.slides |= item.slides


def read_outlines(path: Path, slide: str, image: str, facts: Facts) -> Outlines:
    format, contents = read_contents(path, image, (facts.width, facts.height))
    polygons, index, *_ = polygons_of(path, contents.shapes)
    names = np.array([contents.shapes[number].name for number in index], object)
    colours = {item.name: item.colour for item in reversed(contents.shapes)}
    areas = shapely.area(polygons)
    structures = {}
    for name in dict.fromkeys(names):
        own = areas[names == name]
        structures[name] = Structures(
            colours[name], float(own.sum()), len(own), [diameters(own) * (facts.mpp or 1)], {slide}
        )
    return Outlines(format, structures, names_around(polygons, names))


def names_around(polygons: np.ndarray, names: np.ndarray) -> set[str]:
    """Names of shapes in which the middle of a shape of another name lies."""
    if not len(polygons):
        return set()
    inside, outer = shapely.STRtree(polygons).query(shapely.point_on_surface(polygons), predicate="within")
    return set(names[outer[(names[inside] != names[outer]) & (inside != outer)]])


def read_mask(path: Path, slide: str, facts: Facts) -> Mask:
    values = read_values(path, most=4 * facts.width * facts.height)
    _, scale = mask_place(path, values.shape, (facts.width, facts.height))
    unit = scale * (facts.mpp or 1)
    found, counts = np.unique(values, return_counts=True)
    colours = palette(path)
    instances = len(found) > INSTANCES
    step = max(1, int(np.ceil(np.sqrt(values.size / LARGEST))))
    structures = {}
    for value, count in zip(found.tolist(), counts.tolist(), strict=True):
        pieces = np.array([count]) if instances else pieces_of(values[::step, ::step] == value) * step**2
        structures[value] = Structures(
            colours.get(value, ""), count * scale**2, len(pieces), [diameters(pieces) * unit], {slide}
        )
    return Mask("mask", structures, instances)


def pieces_of(mask: np.ndarray) -> np.ndarray:
    """Pixels of each connected piece of a mask."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return stats[1:, cv2.CC_STAT_AREA].astype(float)


def palette(path: Path) -> dict[int, str]:
    """The colours of a mask's values, where it is an image with a palette."""
    if path.suffix.lower() != ".png":
        return {}
    with Image.open(path, formats=("PNG",)) as image:
        colours = image.getpalette() if image.mode == "P" else None
    if colours is None:
        return {}
    return {value: "#" + bytes(colours[3 * value : 3 * value + 3]).hex() for value in range(len(colours) // 3)}


def diameters(areas: np.ndarray) -> np.ndarray:
    """Of circles of these areas."""
    return 2 * np.sqrt(areas / np.pi)


def in_threads(work: Callable[[str], Result], names: list[str], what: str) -> dict[str, Result]:
    """What `work` makes of each name, with a progress bar on a terminal."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(names, tqdm(pool.map(work, names), what, len(names), disable=None, leave=False), strict=True))
