"""From an annotation file of any format to labels: which format it is, which class, and whether it fits the slide."""

import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import defusedxml
import numpy as np
import shapely
from defusedxml import ElementTree

from stedm.config import IGNORE_INDEX, MAX_MEGAPIXELS, MAX_SHAPES, Annotations, TissueClass
from stedm.errors import UserError
from stedm.files import check_regular
from stedm.slides.annotations.annotation import IGNORE, REGION, Annotation, PolygonAnnotation, Shape
from stedm.slides.annotations.aperio import read_aperio
from stedm.slides.annotations.asap import read_asap
from stedm.slides.annotations.coco import is_coco, read_coco
from stedm.slides.annotations.geojson import read_geojson
from stedm.slides.annotations.lost import MOST_POINTS, losses
from stedm.slides.annotations.mask import read_mask
from stedm.slides.annotations.origin import Area, area_of
from stedm.slides.annotations.shapes import Contents, NamedShape, polygons_of

BLOCK = 200
"""Shapes that are compared with all others at a time."""
MOST_NESTED = 1_000_000
"""Pairs of shapes of which one may lie in the other; a region with 100,000 cells has 100,000."""
CHARACTERS, VALUES = 1000, 100
"""That a file may have for each shape that it may have. Python takes 70 bytes for each value (see `read_text`)."""
OUTSIDE = 8, 0.005
"""Shapes may reach beyond the slide by these pixels, or this share of its side: a hand slips."""
KINDS = {REGION: "region", IGNORE: "ignored shape"}


def read_annotation(
    path: Path,
    classes: Sequence[TissueClass],
    annotations: Annotations,
    dimensions: tuple[int, int],
    image: str = "",
    bounds: Area | None = None,
    downsample: float = 1.0,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Annotation:
    """Read the annotation of a slide.

    Args:
        path: GeoJSON or COCO (.geojson, .json), ASAP or Aperio ImageScope (.xml), or a mask (.png, .tif, .tiff).
        classes: the study's classes, in the order of their labels.
        annotations: which names are regions, which are ignored, and what fills the regions.
        dimensions: (width, height) of the slide's level 0.
        image: file name of the slide, by which files of many slides (COCO) are searched.
        bounds: the scanned area, where it is not all of the slide.
        downsample: level-0 pixels per pixel of the labels that are wanted; shapes that have none are noted.
        max_megapixels: that a mask may have.

    Raises:
        UserError: it cannot be read, has classes that nobody knows, does not lie on the slide, or labels nothing
            though it has shapes.
    """
    check_regular(path)
    if path.suffix.lower() in (".png", ".tif", ".tiff"):
        return read_mask(path, classes, dimensions, bounds, annotations.origin, max_megapixels)
    with collector_paused(), np.errstate(invalid="ignore", over="ignore"):  # shapely warns of what is refused here
        its_dimensions = area_of(annotations.origin, "coco", dimensions, bounds)[2:]
        format, contents = read_contents(path, image, its_dimensions, annotations.max_shapes)
        area = area_of(annotations.origin, format, dimensions, bounds)
        return annotation_of(path, format, contents, classes, annotations, dimensions, area, downsample)


def read_contents(
    path: Path, image: str, dimensions: tuple[int, int], max_shapes: int = MAX_SHAPES
) -> tuple[str, Contents]:
    """The format of a file by its ending and its content, and what it holds.

    Raises:
        UserError: it cannot be read, or has more shapes, or values for them, than it may have.
    """
    format, contents = parsed(path, image, dimensions, max_shapes)
    if len(contents.shapes) > max_shapes:
        raise UserError(too_long(path, f"{len(contents.shapes):,} shapes", max_shapes))
    return format, contents


def too_long(path: Path, what: str, max_shapes: int) -> str:
    return (
        f"{path}: has {what}, too many; export it without measurements, or only the shapes that count, or raise"
        f" annotations.max_shapes ({max_shapes:,}), where there are 12 kB of memory for each"
    )


def parsed(path: Path, image: str, dimensions: tuple[int, int], max_shapes: int) -> tuple[str, Contents]:
    match path.suffix.lower():
        case ".geojson" | ".json":
            data = parse_json(path, max_shapes)
            return (
                ("coco", read_coco(path, data, image, dimensions))
                if is_coco(data)
                else ("geojson", read_geojson(path, data))
            )
        case ".xml":
            root = parse_xml(path, max_shapes)
            match root.tag:
                case "ASAP_Annotations":
                    return "asap", read_asap(path, root)
                case "Annotations":
                    return "aperio", read_aperio(path, root)
            raise UserError(
                f"{path}: its root is <{root.tag}>; XML is read of ASAP (<ASAP_Annotations>) and Aperio ImageScope"
                " (<Annotations>). Export it as GeoJSON instead"
            )
    raise UserError(
        f"{path}: annotations are read from GeoJSON and COCO (.geojson, .json), ASAP and Aperio ImageScope (.xml) and"
        f" masks (.png, .tif, .tiff), not from {path.suffix or 'files without an ending'}; export it as one of them"
    )


@contextmanager
def collector_paused() -> Iterator[None]:
    """Python's garbage collector paused: it takes two thirds of the time to read 100,000 cells, and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def parse_json(path: Path, max_shapes: int) -> Any:
    try:
        return json.loads(read_text(path, {b",": 1, b"[": 2, b"{": 4}, max_shapes).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); export it again") from error


def parse_xml(path: Path, max_shapes: int) -> Element:
    """The root. Entities are refused: no exporter writes any, and they can fill the memory or read other files."""
    try:
        return ElementTree.fromstring(read_text(path, {b"<": 2, b"=": 5}, max_shapes))
    except (OSError, ParseError, LookupError, ValueError) as error:
        reason = "it defines entities" if isinstance(error, defusedxml.DefusedXmlException) else error
        raise UserError(f"{path}: cannot be read as XML ({reason}); export it again") from error


def read_text(path: Path, weights: Mapping[bytes, int], max_shapes: int) -> bytes:
    """The bytes of a file whose values, when it is parsed, do not fill the memory.

    Args:
        path: of the file.
        weights: values that a character stands for.
        max_shapes: that it may have.

    Raises:
        UserError: it has too many characters or values for its shapes.
    """
    if (size := path.stat().st_size) > CHARACTERS * max_shapes:
        raise UserError(too_long(path, f"{size:,} bytes", max_shapes))
    text = path.read_bytes()
    values = sum(weight * text.count(character) for character, weight in weights.items())
    if values > VALUES * max_shapes:
        raise UserError(too_long(path, f"{values:,} values", max_shapes))
    return text


def annotation_of(
    path: Path,
    format: str,
    contents: Contents,
    classes: Sequence[TissueClass],
    annotations: Annotations,
    dimensions: tuple[int, int],
    area: Area,
    downsample: float,
) -> PolygonAnnotation:
    """Shapes in painting order: as in the file, but what lies within another class's over it."""
    polygons, index, without_area, repairs = polygons_of(path, contents.shapes)
    if without_area and annotations.without_area == "refuse":
        raise UserError(
            f"{path}: {counted(without_area)}: these have no area, so they label nothing. Give them areas, or set"
            " annotations.without_area to ignore"
        )
    labels = labels_of(path, [contents.shapes[number] for number in np.unique(index)], classes, annotations)
    polygons = on_canvas(path, polygons, area)
    try:
        shapes = painting_order(polygons, [labels[contents.shapes[number].name] for number in index])
        kinds = Counter(KINDS[item.label] for item in shapes if item.label in KINDS)
        if annotations.whole_slide and not kinds[KINDS[REGION]]:
            shapes.append(Shape(shapely.box(0, 0, *dimensions), REGION))
        reasons = losses(shapes, dimensions, downsample)
    except ValueError as error:
        raise UserError(f"{path}: {error}; is it an annotation? Simplify it, and export it again") from error
    filled = annotations.fill is not None and any(item.label == REGION for item in shapes)
    lost = +(contents.lost + without_area + Counter(reasons[reasons != ""].tolist()))
    labelling = any(item.label >= 0 and not reason for item, reason in zip(shapes, reasons, strict=True))
    if lost + kinds and not labelling and not (kinds and filled):
        remedy = (
            "correct it" if filled or not kinds[KINDS[REGION]] else "set annotations.fill, or add shapes of classes"
        )
        raise UserError(
            f"{path}: nothing in it labels a pixel ({counted(lost + kinds)}); {remedy}, or leave `annotation` empty in"
            " the sheet"
        )
    notes = [*contents.notes, *repairs, *(f"not labelled: {count} × {kind}" for kind, count in sorted(lost.items()))]
    if not labelling and not kinds:
        consequence = f"all of the slide is {annotations.fill}" if filled else "nothing is annotated"
        notes.append(f"the annotation has no shape: {consequence}")
    elif annotations.fill is not None and not filled:
        notes.append("the annotation has no region: only its shapes are annotated, nothing is filled")
    fill = IGNORE_INDEX if annotations.fill is None else [item.name for item in classes].index(annotations.fill)
    return PolygonAnnotation(shapes, fill, format, notes, (reasons == "").tolist())


def painting_order(polygons: np.ndarray, labels: Sequence[int]) -> list[Shape]:
    """Polygons with their labels: those that lie in fewer others first.

    Raises:
        ValueError: too many lie within each other.
    """
    shapes = [Shape(polygon, label) for polygon, label in zip(polygons, labels, strict=True)]
    depth = np.zeros(len(shapes), int)
    of_class = np.flatnonzero([label >= 0 for label in labels])
    depth[of_class] = depths(polygons[of_class])
    return [shapes[number] for number in np.argsort(depth, kind="stable")]


def counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))


def depths(polygons: np.ndarray) -> np.ndarray:
    """(N,) how many others each polygon lies in.

    Raises:
        ValueError: so many lie within so many others that it would take minutes.
    """
    tree, bounds = shapely.STRtree(polygons), shapely.bounds(polygons) * (1, 1, -1, -1)
    depth, compared, points = np.zeros(len(polygons), int), 0, shapely.get_num_coordinates(polygons)
    work = 0
    for start in range(0, len(polygons), BLOCK):
        outer, inner = tree.query(polygons[start : start + BLOCK])
        outer += start
        for side in bounds.T:  # few boxes lie within others, where most shapes are cells
            within = side[outer] <= side[inner]
            outer, inner = outer[within], inner[within]
        outer, inner = outer[outer != inner], inner[outer != inner]
        compared += len(outer)
        if compared > MOST_NESTED:
            raise ValueError(f"more than {MOST_NESTED:,} pairs of shapes lie within each other")
        work += int(points[inner].sum())
        if work > MOST_POINTS:
            raise ValueError(f"shapes lie within each other whose outlines have more than {MOST_POINTS:,} points")
        shapely.prepare(polygons[outer])
        depth += np.bincount(inner[shapely.contains(polygons[outer], polygons[inner])], minlength=len(polygons))
        shapely.destroy_prepared(polygons[outer])
    return depth


def labels_of(
    path: Path, shapes: Sequence[NamedShape], classes: Sequence[TissueClass], annotations: Annotations
) -> dict[str, int]:
    """Label of each name.

    Raises:
        UserError: names that stand for nothing, all of them, each with its count and its colour.
    """
    known = {name: label for label, item in enumerate(classes) for name in (item.annotations or [item.name])}
    colours = {item.name: item.colour for item in reversed(shapes)}
    labels = {}
    for name in colours:
        if name in known:
            labels[name] = known[name]
        elif any(fnmatchcase(name, pattern) for pattern in annotations.ignore):
            labels[name] = IGNORE
        elif any(fnmatchcase(name, pattern) for pattern in annotations.regions):
            labels[name] = REGION
    counts = Counter(item.name for item in shapes if item.name not in labels)
    if counts:
        unknown = [f"{name!r} ({', '.join(filter(None, [str(counts[name]), colours[name]]))})" for name in counts]
        raise UserError(
            f"{path}: unknown classes: {', '.join(unknown)}; known are {', '.join(map(repr, known))}. Name them under"
            " `annotations` of one of the classes; or in annotations.regions, which say what is annotated; or in"
            " annotations.ignore, which leaves out what lies in them too"
        )
    return labels


def on_canvas(path: Path, polygons: np.ndarray, area: Area) -> np.ndarray:
    """Polygons whose coordinates count from the corner of an area, in those of the canvas.

    Raises:
        UserError: they do not lie on the area: another slide's, or another resolution's.
    """
    x, y, width, height = area
    if not len(polygons):
        return polygons
    left, upper, right, lower = shapely.total_bounds(polygons)
    more_x, more_y = (max(OUTSIDE[0], OUTSIDE[1] * side) for side in (width, height))
    if left >= -more_x and upper >= -more_y and right <= width + more_x and lower <= height + more_y:
        return np.asarray(shapely.transform(polygons, lambda points: points + np.array((x, y)))) if x or y else polygons
    hint = (
        f"; or count from the canvas, on which this scanned area lies at x {x}, y {y} (origin: canvas)"
        if x or y
        else ""
    )
    raise UserError(
        f"{path}: wrong coordinates: the shapes lie at x {left:.0f} to {right:.0f}, y {upper:.0f} to {lower:.0f}, the"
        f" slide is {width} × {height} px. Is it another slide's annotation, or not in level-0 pixels? Export it again"
        f" from this slide{hint}"
    )
