"""Style samplers: which images show the style of a target patch.

All are pure functions of a random generator and of the patch file, and know nothing but that slide. What they choose is
read when it is asked for, so that one process can choose for a whole batch and read its share of it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from stedm.config import Style
from stedm.errors import UserError
from stedm.images import dihedral
from stedm.store import PatchFile

Reads = Callable[[], np.ndarray]
"""Reads one or several images, uint8 (…, P, P, 3)."""
Piece = tuple[int, Any, Any]
"""A patch, a part of it, and the place where the part belongs in another image."""


def overlapping(coords: np.ndarray, index: int, side: float) -> np.ndarray:
    """(N,) bool: patches that share pixels with patch `index`; `side` is a patch's side in level-0 pixels."""
    distance = np.abs(coords - coords[index])
    return (distance < side).all(1)


def style_images(style: Style, file: PatchFile, index: int, rng: np.random.Generator) -> Reads:
    """Choose the style set of a target patch.

    Args:
        style: sampler, size of the set, whether pixels of the target are kept out.
        file: patches of the target's slide.
        index: the target.
        rng: source of randomness.

    Returns:
        Reads it: (n, P, P, 3) uint8.
    """
    match style.sampler:
        case "multi_patch":
            chosen = multi_patch(style, file, index, rng)
            turns = [int(rng.integers(8)) for _ in chosen]
            return lambda: np.stack([dihedral(file.image(int(i)), turn) for i, turn in zip(chosen, turns, strict=True)])
        case "nearby":
            pieces = nearby(style, file, index, rng)
            return lambda: mosaic(file, pieces)[None]
        case "augmented":
            shift, turn = rng.integers(0, file.patch_size, 2), int(rng.integers(8))
            return lambda: augmented(file.image(index), shift, turn)[None]
        case _:
            raise ValueError(f"the sampler {style.sampler} has no style images")


def candidates(style: Style, file: PatchFile, index: int) -> np.ndarray:
    """Patches that may be in the style set of patch `index`."""
    if not style.exclude_overlap:
        return np.arange(len(file))
    return np.flatnonzero(~overlapping(file.coords, index, side_level0(file)))


def has_style(style: Style, file: PatchFile) -> np.ndarray:
    """(N,) bool: patches for which a style set can be found."""
    if style.sampler in ("none", "augmented") or not style.exclude_overlap or not len(file):
        return np.ones(len(file), bool)
    farthest = np.maximum(file.coords - file.coords.min(0), file.coords.max(0) - file.coords).max(1)
    return farthest >= side_level0(file)


def multi_patch(style: Style, file: PatchFile, index: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `style.images` patches of the same slide, without repeats where there are enough."""
    allowed = candidates(style, file, index)
    if not len(allowed):
        raise UserError(
            f"{file.path}: patch {index} has no other patch on its slide that could show its style. Make patches"
            " smaller, or set style.sampler to `augmented`"
        )
    return rng.choice(allowed, style.images, replace=len(allowed) < style.images)


def nearby(style: Style, file: PatchFile, index: int, rng: np.random.Generator) -> list[Piece]:
    """Pieces of an image that is offset from the target by at most one patch in x and y.

    With `exclude_overlap` the offset is a whole patch in x or in y, so that no pixel of the target is seen. Where the
    neighbours that an offset needs are missing (background), another offset is tried; after 20 the target's nearest
    other patch is taken.
    """
    side = int(side_level0(file))
    for _ in range(20):
        offset = rng.integers(-side, side + 1, 2)
        if style.exclude_overlap:
            offset[rng.integers(2)] = rng.choice([-side, side])
        if pieces := pieces_at(file, file.coords[index] + offset):
            return pieces
    others = candidates(style, file, index)
    others = others[others != index]
    if not len(others):
        raise UserError(f"{file.path}: patch {index} has no neighbour; set style.sampler to `augmented`")
    distance = np.abs(file.coords[others] - file.coords[index]).max(1)
    return [(int(others[distance.argmin()]), np.s_[:], np.s_[:])]


def pieces_at(file: PatchFile, corner: np.ndarray) -> list[Piece]:
    """Pieces of the patch-sized image at a level-0 corner; none where the stored patches do not cover it."""
    side, size = side_level0(file), file.patch_size
    covered = np.zeros((size, size), bool)
    pieces: list[Piece] = []
    for one in np.flatnonzero((np.abs(file.coords - corner) < side).all(1)).tolist():
        x, y = np.rint((file.coords[one] - corner) * size / side).astype(int)
        here = np.s_[max(y, 0) : size + min(y, 0), max(x, 0) : size + min(x, 0)]
        there = np.s_[max(-y, 0) : size + min(-y, 0), max(-x, 0) : size + min(-x, 0)]
        pieces.append((one, there, here))
        covered[here] = True
    return pieces if covered.all() else []


def mosaic(file: PatchFile, pieces: list[Piece]) -> np.ndarray:
    """(P, P, 3) uint8, put together from pieces of stored patches."""
    image = np.empty((file.patch_size, file.patch_size, 3), np.uint8)
    for one, there, here in pieces:
        image[here] = file.image(one)[there]
    return image


def augmented(image: np.ndarray, shift: np.ndarray, turn: int) -> np.ndarray:
    """The image itself: shifted around its borders, turned and flipped."""
    return dihedral(np.roll(image, tuple(shift), (0, 1)), turn)


def side_level0(file: PatchFile) -> float:
    """Side of a patch in level-0 pixels."""
    return float(file.attributes["patch_size"]) * float(file.attributes["downsample"])
