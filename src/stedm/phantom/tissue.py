"""What the microscope sees: stained tissue with its nuclei, fibres and holes, and the light through it."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from stedm.phantom.layout import Image, Mask, disk, noise, single
from stedm.phantom.style import Style

NUCLEUS = 10.5
"""µm: diameter of a tumour nucleus of relative size 1."""
FAT_CELL = 26.0
"""µm: distance of fat cells."""


def stain_tissue(tumour: Mask, tissue: Mask, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Concentrations of haematoxylin and eosin, each (size, size), from (size, size) masks of tumour and tissue."""
    size = len(tissue)
    fibres, direction = render_fibres(size, mpp, style, rng)
    holes, rims = render_holes(tumour, tissue, mpp, style, rng)
    solid = tissue & ~holes
    tumour_chromatin, tumour_nuclei = tumour_cells(tumour & solid, direction, mpp, style, rng)
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


def render_fibres(size: int, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Wavy fibres (relative density, 0.3 to 1.8) and their direction (radians), each (size, size).

    Noise stretched along x, sampled on a warped and rotated grid.
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
    direction = np.arctan2(-slope_x, slope_y)  # perpendicular to the steepest way across the fibres
    return np.clip(1 + style.fibre_contrast * wavy, 0.3, 1.8), direction.astype(np.float32)


def render_holes(tumour: Mask, tissue: Mask, mpp: float, style: Style, rng: Generator) -> tuple[Mask, Image]:
    """Gland lumina in the tumour, vessels and fat in the stroma, and the weight (0 to 1) of the rims around them."""
    size = len(tissue)
    holes = np.zeros((size, size), np.uint8)
    stroma = tissue & ~tumour
    for inside, share, wall in ((tumour, style.lumina, 9.0), (stroma, 0.012, 5.0)):
        depth = distance(inside) * mpp
        y, x = np.nonzero(depth > wall + 4)
        count = int(share * inside.sum() * mpp**2 / 250)  # 250 µm²: about the mean area of a hole
        for pick in rng.integers(len(y), size=count if len(y) else 0):
            radius = rng.uniform(0.3, 1) * min(depth[y[pick], x[pick]] - wall, 16.0)
            cv2.fillPoly(holes, [blob(x[pick], y[pick], radius / mpp, rng)], 1)
    lobules = noise(size, 45 / mpp, rng)
    inside = (lobules > np.quantile(lobules, 1 - style.fat)) & (distance(stroma) * mpp > FAT_CELL / 2)
    for x, y in scatter(inside, FAT_CELL / mpp, rng):
        cv2.circle(holes, (round(x), round(y)), round(rng.uniform(0.36, 0.5) * FAT_CELL / mpp), 1, cv2.FILLED)
    return holes > 0, np.exp(-distance(holes == 0) * mpp / 2).astype(np.float32) * (holes == 0)


def blob(x: float, y: float, radius: float, rng: Generator) -> NDArray[np.int32]:
    """(48, 2) points around an irregular, elongated disk."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    waves = np.cos(np.outer(angle, (2, 3, 5)) + rng.uniform(0, 2 * np.pi, 3))
    reach = radius * (1 + waves @ (0.25, 0.1, 0.06))
    return np.rint(np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)).astype(np.int32)


def tumour_cells(inside: Mask, direction: Image, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Large, crowded nuclei, round or along the fibres: chromatin and coverage, each (size, size) in 0 to 1."""
    diameter = NUCLEUS * style.nuclear_size
    spacing = max((0.6 * diameter + 5.5) / np.sqrt(style.density), 0.9 * diameter)
    room = cv2.erode(inside.astype(np.uint8), disk(0.25 * diameter / mpp)) > 0
    centres = scatter(room, spacing / mpp, rng)
    radii = diameter / 2 / mpp * np.clip(rng.lognormal(0, style.pleomorphism, len(centres)), 0.6, 1.6)
    stretch = np.exp(rng.uniform(0, 0.08 + 0.5 * style.pleomorphism, len(centres)) + style.spindle)
    axes = np.stack([radii * stretch, radii / stretch], axis=1)
    x, y = centres.astype(int).T
    turn = np.pi / 2 if style.spindle < 0.1 else 0.35  # radians either way
    angles = direction[y, x] + rng.uniform(-turn, turn, len(centres))
    return stamp(len(inside), centres, axes, angles, style.ring, mpp, rng)


def stroma_cells(inside: Mask, direction: Image, mpp: float, style: Style, rng: Generator) -> tuple[Image, Image]:
    """Sparse dark spindles along the fibres, and lymphocytes: chromatin and coverage, as for the tumour."""
    growth = style.nuclear_size**0.5
    centres = scatter(inside, 23 / np.sqrt(style.density * (1 + 2 * style.inflammation)) / mpp, rng)
    x, y = centres.astype(int).T
    angles = direction[y, x] + rng.normal(0, 0.15, len(centres))
    axes = growth / mpp * np.stack([rng.uniform(4, 8, len(x)), rng.uniform(1.1, 2.0, len(x))], axis=1)
    axes[rng.random(len(x)) < style.inflammation] = 2.9 / mpp  # µm, lymphocytes: small and round whatever the patient
    return stamp(len(inside), centres, axes, angles, 0.3 * style.ring, mpp, rng)


def scatter(inside: Mask, spacing: float, rng: Generator) -> NDArray[np.float64]:
    """(N, 2) points x, y within a mask, about `spacing` px apart: a hexagonal grid, jittered, a tenth left out."""
    size = len(inside)
    rows, columns = np.mgrid[: size / spacing / 0.866 + 1, : size / spacing + 1]
    points = np.stack([columns + 0.5 * (rows % 2), 0.866 * rows], axis=-1).reshape(-1, 2)
    points = spacing * (points + rng.uniform(-0.27, 0.27, points.shape))[rng.random(len(points)) < 0.9]
    x, y = np.clip(points, 0, size - 1).astype(int).T
    return points[inside[y, x] & (points.max(axis=1) < size) & (points.min(axis=1) >= 0)]


def stamp(
    size: int, centres: NDArray[Any], axes: NDArray[Any], angles: NDArray[Any], ring: float, mpp: float, rng: Generator
) -> tuple[Image, Image]:
    """Render nuclei, all at once.

    Args:
        size: pixels of each side.
        centres: (N, 2) x, y in px.
        axes: (N, 2) half axes in px.
        angles: (N,) of the first axis, radians.
        ring: 0 to 1, how far chromatin moves from the middle to the rim and a nucleolus.
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
    visible = (edge > 0) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
    np.maximum.at(coverage, (y[visible], x[visible]), edge[visible])
    np.maximum.at(chromatin, (y[visible], x[visible]), shade[visible])
    return chromatin, coverage


def distance(mask: Mask) -> Image:
    """Distance in px of each true pixel from the nearest false one."""
    return single(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3))


def blurred(image: Image | Mask, sigma: float) -> Image:
    return single(cv2.GaussianBlur(single(image), (0, 0), max(sigma, 0.1)))


def transmit(haematoxylin: Image, eosin: Image, mpp: float, style: Style, rng: Generator) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB of light through the stains (Beer-Lambert), the optics and the camera."""
    stains = single([style.haematoxylin, style.eosin])
    density = haematoxylin[..., None] * stains[0] + eosin[..., None] * stains[1]
    light = blurred(single(style.background) * np.exp(-density), style.blur / mpp)
    grain = style.noise * rng.standard_normal(light.shape, dtype=np.float32)
    return np.clip(255 * light + grain, 8, 255).astype(np.uint8)
