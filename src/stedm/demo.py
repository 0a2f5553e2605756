"""Phantom whole-slide images for the default study: layouts, styles, pixels and annotations, all drawn here.

A phantom looks like H&E at 0.5 µm/px and is built as a stained section is: haematoxylin and eosin concentrations
first, light through them after (Beer-Lambert). What is tumour (the layout) and how a patient looks (the style) are
drawn from separate streams of random numbers, so that neither tells anything about the other.

Lengths are in µm unless a name says px; images are (height, width); points are x, y in level-0 pixels.
"""

from __future__ import annotations

import json
import math
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
import tifffile
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import Polygon

from stedm.errors import UserError
from stedm.files import written_whole

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Optical densities of pure stains over red, green, blue (Ruifrok & Johnston 2001, table 1).
HAEMATOXYLIN = (0.650, 0.704, 0.286)
EOSIN = (0.072, 0.990, 0.105)

NEST_SCALE = {"solid": 42.0, "nested": 15.0}  # µm: few big rounded nests, or many small ones and cords
NUCLEUS = 10.5  # µm: diameter of a tumour nucleus of relative size 1
CLASS_COLOURS = {"Tumor": (200, 0, 0), "Region*": (0, 0, 180)}  # QuPath's own


@dataclass(frozen=True)
class Style:
    """How the slides of one patient look. Concentrations are optical densities (natural logarithm)."""

    haematoxylin: tuple[float, float, float]  # unit optical density over red, green, blue
    eosin: tuple[float, float, float]
    background: tuple[float, float, float]  # light through empty glass, 0 to 1
    nuclear_size: float  # relative to NUCLEUS
    ring: float  # 0: solid chromatin, 1: only a rim and a nucleolus
    density: float  # nuclei per area, relative
    pleomorphism: float  # spread of nuclear size and shape
    chromatin: float  # contrast of the texture inside nuclei
    halo: float  # clearing of the cytoplasm around nuclei
    fibre_scale: float  # µm, thickness of the stroma's fibres
    fibre_contrast: float
    lumina: float  # share of the nests' area that glands may take
    nuclear_haematoxylin: float
    cytoplasm_haematoxylin: float
    cytoplasm_eosin: float
    stroma_haematoxylin: float
    stroma_eosin: float
    blur: float  # µm, standard deviation of the optics
    noise: float  # grey levels, standard deviation of the camera


# quantity: (range of the annotated patients, range of all others)
RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "nuclear_size": ((0.92, 1.05), (0.7, 1.6)),
    "ring": ((0.0, 0.15), (0.0, 0.9)),
    "density": ((0.95, 1.1), (0.6, 1.5)),
    "pleomorphism": ((0.08, 0.12), (0.05, 0.25)),
    "chromatin": ((0.2, 0.3), (0.1, 0.45)),
    "halo": ((0.0, 0.15), (0.0, 0.75)),
    "fibre_scale": ((1.3, 1.6), (0.8, 3.2)),
    "fibre_contrast": ((0.32, 0.4), (0.15, 0.55)),
    "lumina": ((0.03, 0.05), (0.0, 0.1)),
    "nuclear_haematoxylin": ((1.7, 1.9), (1.3, 2.4)),
    "cytoplasm_haematoxylin": ((0.35, 0.45), (0.1, 0.5)),
    "cytoplasm_eosin": ((0.3, 0.4), (0.2, 0.8)),
    "stroma_haematoxylin": ((0.04, 0.1), (0.02, 0.4)),
    "stroma_eosin": ((0.6, 0.7), (0.35, 0.95)),
    "blur": ((0.25, 0.4), (0.0, 1.2)),
    "noise": ((1.5, 2.0), (0.5, 4.0)),
}


def draw_style(rng: Generator, wide: bool) -> Style:
    """One patient's appearance: from the wide ranges, or the narrow ones of the annotated patients."""
    hue, tint = (0.11, 0.025) if wide else (0.02, 0.006)

    def stain(pure: tuple[float, float, float]) -> tuple[float, float, float]:
        vector = np.maximum(np.array(pure) + rng.uniform(-hue, hue, 3), 0.02)
        red, green, blue = vector / np.linalg.norm(vector)
        return float(red), float(green), float(blue)

    red, green, blue = 0.945 + rng.uniform(-tint, tint, 3)
    return Style(
        haematoxylin=stain(HAEMATOXYLIN),
        eosin=stain((EOSIN[0] + 0.06, EOSIN[1], EOSIN[2] + 0.3)),  # today's scanners see it redder than their camera
        background=(float(red), float(green), float(blue)),
        **{name: float(rng.uniform(*ranges[wide])) for name, ranges in RANGES.items()},
    )


def draw_slide(
    size: int, mpp: float, style: Style, group: str, rng: Generator
) -> tuple[NDArray[np.uint8], list[Polygon], list[Polygon]]:
    """A slide of one piece of tissue.

    Args:
        size: pixels of each side.
        mpp: µm per pixel.
        style: the patient's appearance; it does not touch the layout.
        group: "solid" or "nested", the geometry of the tumour.
        rng: two streams are spawned from it, layout and texture.

    Returns:
        (size, size, 3) uint8 RGB; the tumour's polygons; the tissue's outline; both in pixels.
    """
    layout_rng, texture_rng = rng.spawn(2)
    tumour, region = draw_layout(size, mpp, group, layout_rng)
    concentrations = draw_tissue(rasterise(tumour, size), rasterise(region, size), mpp, style, texture_rng)
    return transmit(*concentrations, mpp, style, texture_rng), tumour, region


# Layout --------------------------------------------------------------------------------------------------------------


def draw_layout(size: int, mpp: float, group: str, rng: Generator) -> tuple[list[Polygon], list[Polygon]]:
    """Tumour and tissue polygons: thresholds of smooth noise, at the quantile that gives the share wanted."""
    if group not in NEST_SCALE:
        raise UserError(f'phantom slides have no group "{group}"; choose from {", ".join(NEST_SCALE)}')
    if size * mpp < 120:
        raise UserError(f"demo: {size} px at {mpp} µm/px leave no room for tumour nests; draw 120 µm or more")
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    edge = np.abs(axis[:, None]) ** 6 + np.abs(axis[None, :]) ** 6
    tissue = 0.2 * noise(size, size / 9, rng) + 0.04 * noise(size, size / 30, rng) - edge
    tissue[np.maximum(np.abs(axis[:, None]), np.abs(axis[None, :])) > 0.98] = -np.inf  # glass on all four sides
    outlines = outline(tissue > np.quantile(tissue, 1 - rng.uniform(0.64, 0.76)), 4 / mpp)
    region = [Polygon(max(outlines, key=lambda polygon: polygon.area).exterior)]

    scale = NEST_SCALE[group] / mpp
    inside = cv2.erode(rasterise(region, size).astype(np.uint8), disk(8 / mpp)) > 0
    nests = noise(size, scale, rng) + 0.18 * noise(size, 8 / mpp, rng) + 0.06 * noise(size, 3 / mpp, rng)
    share = rng.uniform(0.33, 0.43) * region[0].area / inside.sum()
    return outline(inside & (nests > np.quantile(nests[inside], 1 - share)), 4 / mpp), region


def noise(size: int, scale: float | tuple[float, float], rng: Generator) -> Image:
    """(size, size) Gaussian noise of mean 0 and deviation 1, smooth over `scale` px (along y, along x)."""
    along_y, along_x = scale if isinstance(scale, tuple) else (scale, scale)
    step_y, step_x = max(1, int(along_y / 2)), max(1, int(along_x / 2))  # a smooth field needs few samples
    coarse = rng.standard_normal((-(-size // step_y) + 4, -(-size // step_x) + 4), dtype=np.float32)
    smooth = cv2.GaussianBlur(coarse, (0, 0), sigmaX=along_x / step_x, sigmaY=along_y / step_y)
    field = cv2.resize(smooth, (coarse.shape[1] * step_x, coarse.shape[0] * step_y), interpolation=cv2.INTER_CUBIC)
    field = field[:size, :size]
    return single((field - field.mean()) / field.std())


def disk(radius: float) -> NDArray[np.uint8]:
    """Structuring element of this radius in px."""
    width = 2 * round(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)).astype(np.uint8)


def outline(mask: Mask, radius: float) -> list[Polygon]:
    """Valid polygons, with holes, around a mask, without what is thinner or smaller than a few `radius` px."""
    smooth = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disk(radius))
    smooth = cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, disk(radius))
    contours, hierarchy = cv2.findContours(smooth, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    smallest = 50 * radius**2
    rings = [Polygon(contour[:, 0, :]) if len(contour) > 3 else Polygon() for contour in contours]
    polygons = []
    for index, ring in enumerate(rings):
        if hierarchy[0, index, 3] < 0 and ring.area > smallest:
            inner = [hole for hole, (*_, parent) in zip(rings, hierarchy[0], strict=True) if parent == index]
            holes = [hole.exterior for hole in inner if hole.area > smallest]
            whole = shapely.make_valid(Polygon(ring.exterior, holes)).simplify(0.7)
            parts = shapely.get_parts(shapely.set_precision(whole, 1))  # whole pixels, and still valid
            polygons += [part for part in parts if part.geom_type == "Polygon"]
    return [polygon for polygon in polygons if polygon.area > smallest]


def rasterise(polygons: Iterable[Polygon], size: int) -> Mask:
    """(size, size) bool, true inside the polygons."""
    mask = np.zeros((size, size), np.uint8)
    for polygon in polygons:
        rings = [polygon.exterior, *polygon.interiors]
        cv2.fillPoly(mask, [np.rint(np.asarray(ring.coords)).astype(np.int32) for ring in rings], 1)
    return mask > 0


# Tissue --------------------------------------------------------------------------------------------------------------


def draw_tissue(tumour: Mask, tissue: Mask, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Haematoxylin and eosin concentrations, each (size, size)."""
    size = len(tissue)
    fibres, direction = draw_fibres(size, mpp, style, rng)
    holes, rims = draw_holes(tumour, tissue, mpp, style, rng)
    solid = tissue & ~holes
    tumour_chromatin, tumour_nuclei = tumour_cells(tumour & solid, mpp, style, rng)
    stroma_chromatin, stroma_nuclei = stroma_cells(~tumour & solid, direction, mpp, style, rng)
    nuclei = np.maximum(tumour_nuclei, stroma_nuclei)
    chromatin = np.maximum(tumour_chromatin, stroma_chromatin)
    chromatin *= np.clip(1 + style.chromatin * noise(size, 0.7 / mpp, rng), 0.3, 1.7)

    nest = blurred(tumour, 0.8 / mpp)
    grain = np.clip(1 + 0.16 * noise(size, 3 / mpp, rng) + 0.12 * noise(size, 0.6 / mpp, rng), 0.3, 1.7)
    halo = 1 - style.halo * nest * np.exp(-((distance(nuclei < 0.5) * mpp / 1.6) ** 2))
    eosin = (nest * style.cytoplasm_eosin * halo + (1 - nest) * style.stroma_eosin * fibres) * grain + 0.45 * rims
    haematoxylin = (nest * style.cytoplasm_haematoxylin * halo + (1 - nest) * style.stroma_haematoxylin) * grain
    haematoxylin = (1 - nuclei) * haematoxylin + style.nuclear_haematoxylin * chromatin
    eosin = (1 - 0.5 * nuclei) * eosin

    thickness = blurred(solid, 0.5 / mpp) * np.clip(1 + 0.08 * noise(size, 60 / mpp, rng), 0.7, 1.3)
    return thickness * haematoxylin, thickness * eosin


def draw_fibres(size: int, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Wavy fibres (relative density, 0.3 to 1.8) and their direction (radians), each (size, size).

    Noise drawn out along x, read through a warped and turned grid.
    """
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    cos, sin = math.cos(turn), math.sin(turn)
    across = cos * y - sin * x + 22 / mpp * noise(size, 38 / mpp, rng)
    across += 2.2 / mpp * noise(size, 9 / mpp, rng)
    along = cos * x + sin * y
    thick, thin = style.fibre_scale / mpp, 0.45 * style.fibre_scale / mpp
    straight = noise(size, (thick, 9 * thick), rng) + 0.7 * noise(size, (thin, 12 * thin), rng)
    wavy = cv2.remap(straight, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(across, (0, 0), 3 / mpp))
    direction = np.arctan2(-slope_x, slope_y)  # at right angles to the steepest way across the fibres
    return np.clip(1 + style.fibre_contrast * wavy, 0.3, 1.8), direction.astype(np.float32)


def draw_holes(tumour: Mask, tissue: Mask, mpp: float, style: Style, rng: Generator) -> tuple[Mask, Image]:
    """Gland lumina in the tumour and vessels in the stroma; and the weight, 0 to 1, of the rims around them."""
    size = len(tissue)
    holes = np.zeros((size, size), np.uint8)
    for inside, share, wall in ((tumour, style.lumina, 9.0), (tissue & ~tumour, 0.012, 5.0)):
        depth = distance(inside) * mpp
        y, x = np.nonzero(depth > wall + 4)
        count = int(share * inside.sum() * mpp**2 / 250)  # 250 µm²: about the mean area of a hole
        for pick in rng.integers(len(y), size=count if len(y) else 0):
            radius = rng.uniform(0.3, 1) * min(depth[y[pick], x[pick]] - wall, 16.0)
            cv2.fillPoly(holes, [blob(x[pick], y[pick], radius / mpp, rng)], 1)
    return holes > 0, np.exp(-distance(holes == 0) * mpp / 2).astype(np.float32) * (holes == 0)


def blob(x: float, y: float, radius: float, rng: Generator) -> NDArray[np.int32]:
    """(48, 2) points around an irregular, drawn-out disk."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = np.cos(np.outer(angle, (2, 3, 5)) + rng.uniform(0, 2 * np.pi, 3))
    reach = radius * (1 + waves @ (0.25, 0.1, 0.06))
    return np.rint(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)).astype(np.int32)


def tumour_cells(inside: Mask, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Big round nuclei, crowded: chromatin and coverage, each (size, size) in 0 to 1."""
    diameter = NUCLEUS * style.nuclear_size
    spacing = max((0.6 * diameter + 5.5) / np.sqrt(style.density), 0.9 * diameter)
    room = cv2.erode(inside.astype(np.uint8), disk(0.25 * diameter / mpp)) > 0
    centres = scatter(room, spacing / mpp, rng)
    radii = diameter / 2 / mpp * np.clip(rng.lognormal(0, style.pleomorphism, len(centres)), 0.6, 1.6)
    stretch = np.exp(rng.uniform(0, 0.08 + 0.5 * style.pleomorphism, len(centres)))
    axes = np.stack([radii * stretch, radii / stretch], axis=1)
    return stamp(len(inside), centres, axes, rng.uniform(0, np.pi, len(centres)), style.ring, mpp, rng)


def stroma_cells(inside: Mask, direction: Image, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Sparse dark spindles along the fibres, and a few lymphocytes: chromatin and coverage as for the tumour."""
    growth = style.nuclear_size**0.5
    centres = scatter(inside, 23 / np.sqrt(style.density) / mpp, rng)
    x, y = centres.astype(int).T
    angles = direction[y, x] + rng.normal(0, 0.15, len(centres))
    axes = growth / mpp * np.stack([rng.uniform(4, 8, len(x)), rng.uniform(1.1, 2.0, len(x))], axis=1)
    axes[rng.random(len(x)) < 0.12] = 2.9 / mpp  # µm, lymphocytes: small and round whatever the patient
    return stamp(len(inside), centres, axes, angles, 0.3 * style.ring, mpp, rng)


def scatter(inside: Mask, spacing: float, rng: Generator) -> NDArray[np.float64]:
    """(N, 2) points x, y within a mask, about `spacing` px apart: a hexagonal grid, shaken and thinned by a tenth."""
    size = len(inside)
    rows, columns = np.mgrid[: size / spacing / 0.866 + 1, : size / spacing + 1]
    points = np.stack([columns + 0.5 * (rows % 2), 0.866 * rows], axis=-1).reshape(-1, 2)
    points = spacing * (points + rng.uniform(-0.27, 0.27, points.shape))[rng.random(len(points)) < 0.9]
    x, y = np.clip(points, 0, size - 1).astype(int).T
    return points[inside[y, x] & (points.max(axis=1) < size) & (points.min(axis=1) >= 0)]


def stamp(
    size: int, centres: NDArray[Any], axes: NDArray[Any], angles: NDArray[Any], ring: float, mpp: float, rng: Generator
) -> tuple[Image, Image]:
    """Draw nuclei, all at once.

    Args:
        size: pixels of each side.
        centres: (N, 2) x, y in px.
        axes: (N, 2) half axes in px.
        angles: (N,) of the first axis, radians.
        ring: 0 to 1, how far chromatin is drawn from the middle to the rim and to a nucleolus.
        mpp: µm per pixel, for the softness of their edges.
        rng: for their shapes, nucleoli and strengths.

    Returns:
        chromatin and coverage, each (size, size) in 0 to 1.
    """
    chromatin, coverage = np.zeros((2, size, size), np.float32)
    count = len(centres)
    if not count:
        return chromatin, coverage
    reach = np.arange(-int(1.35 * axes.max()) - 1, int(1.35 * axes.max()) + 2)
    corner = np.floor(centres).astype(int)
    x, y = corner[:, 0, None, None] + reach, corner[:, 1, None, None] + reach[:, None]  # (N, 1, K) and (N, K, 1)
    dx, dy = single(x - centres[:, 0, None, None]), single(y - centres[:, 1, None, None])
    cos, sin = single([np.cos(angles), np.sin(angles)])[:, :, None, None]
    long, short = single(axes.T)[:, :, None, None]
    u, v = (cos * dx + sin * dy) / long, (cos * dy - sin * dx) / short
    phase, bend, spot_u, spot_v = single(rng.uniform(-1, 1, (4, count)))[:, :, None, None]
    wave = np.cos(2 * np.arctan2(v, u) + 3 * phase)
    r = np.hypot(u, v) * (1 + 0.1 * bend * wave + 0.05 * wave * (u - v))  # beans and eggs rather than ellipses

    edge = np.clip((1 - r) * short / (0.5 / mpp) + 0.5, 0, 1)  # soft over half a µm, whatever the size
    rim = np.exp(-(((r - 0.86) / 0.17) ** 2))
    nucleolus = np.exp(-((u - 0.35 * spot_u) ** 2 + (v - 0.35 * spot_v) ** 2) / 0.2**2)
    strength = single(rng.uniform(0.78, 1, count))[:, None, None]
    shade = strength * edge * (1 - ring + ring * np.clip(0.22 + rim + 0.6 * nucleolus, 0, 1.1))

    x, y = np.broadcast_arrays(x, y)
    drawn = (edge > 0) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    np.maximum.at(coverage, (y[drawn], x[drawn]), edge[drawn])
    np.maximum.at(chromatin, (y[drawn], x[drawn]), shade[drawn])
    return chromatin, coverage


def distance(mask: Mask) -> Image:
    """Distance in px of each true pixel from the nearest false one."""
    return single(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3))


def single(values: ArrayLike) -> Image:
    """As an array in single precision."""
    return np.asarray(values, dtype=np.float32)


def blurred(image: Image | Mask, sigma: float) -> Image:
    return single(cv2.GaussianBlur(single(image), (0, 0), max(sigma, 0.1)))


def transmit(haematoxylin: Image, eosin: Image, mpp: float, style: Style, rng: Generator) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB of light through the stains (Beer-Lambert), the optics and the camera."""
    stains = single([style.haematoxylin, style.eosin])
    density = haematoxylin[..., None] * stains[0] + eosin[..., None] * stains[1]
    light = blurred(single(style.background) * np.exp(-density), style.blur / mpp)
    grain = style.noise * rng.standard_normal(light.shape, dtype=np.float32)
    return np.clip(255 * light + grain, 8, 255).astype(np.uint8)


# Files ---------------------------------------------------------------------------------------------------------------


def write_pyramid(path: Path, image: NDArray[np.uint8], mpp: float) -> None:
    """Write (H, W, 3) RGB as a tiled JPEG TIFF with its half-size copies, which OpenSlide reads with its resolution."""
    levels = [image]
    while len(levels) < 3 or max(levels[-1].shape) > 512:
        height, width, _ = levels[-1].shape
        half = (max(1, width // 2), max(1, height // 2))
        levels.append(np.asarray(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA), dtype=np.uint8))
    with written_whole(path) as temporary, tifffile.TiffWriter(temporary) as file:
        for number, level in enumerate(levels):
            per_cm = 1e4 / mpp * level.shape[1] / image.shape[1]
            file.write(
                level,
                tile=(256, 256),
                photometric="rgb",  # of the input: with this compression it is stored as YCbCr
                compression="jpeg",
                compressionargs={"level": 90},
                subfiletype=int(number > 0),  # 1: a reduced copy, which OpenSlide takes for a level
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
                software="stedm",
            )


def write_geojson(path: Path, tumour: Sequence[Polygon], region: Sequence[Polygon]) -> None:
    """Write annotations as QuPath (0.4 and later) exports them: a feature each, in whole level-0 pixels."""
    shapes = [("Region*", polygon) for polygon in region] + [("Tumor", polygon) for polygon in tumour]
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{path.name} {number}")),  # the same file each time
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    np.rint(ring.coords).astype(int).tolist() for ring in (polygon.exterior, *polygon.interiors)
                ],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": CLASS_COLOURS[name]},
            },
        }
        for number, (name, polygon) in enumerate(shapes)
    ]
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def make_slide(
    slide: str,
    patient: str,
    group: str,
    wide: bool,
    size: int,
    mpp: float,
    seed: int,
    image_path: Path,
    annotation_path: Path,
) -> None:
    """Draw a patient's one slide and its annotation.

    Randomness is a function of (seed, patient), so that each slide can be made alone; `slide` names it and no more.
    """
    style_rng, slide_rng = np.random.default_rng([seed, zlib.crc32(patient.encode())]).spawn(2)
    image, tumour, region = draw_slide(size, mpp, draw_style(style_rng, wide), group, slide_rng)
    write_pyramid(image_path, image, mpp)
    write_geojson(annotation_path, tumour, region)
