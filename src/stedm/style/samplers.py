"""Style samplers: which images show the style of a target patch.

All are pure functions of a random generator and of the patch file, and read nothing but that slide.
"""

import numpy as np

from stedm.config import Style
from stedm.errors import UserError
from stedm.images import dihedral
from stedm.store import PatchFile


def overlapping(coords: np.ndarray, index: int, side: float) -> np.ndarray:
    """(N,) bool: patches that share pixels with patch `index`; `side` is a patch's side in level-0 pixels."""
    distance = np.abs(coords - coords[index])
    return (distance < side).all(1)


def style_images(style: Style, file: PatchFile, index: int, rng: np.random.Generator) -> np.ndarray:
    """The style set of a target patch.

    Args:
        style: sampler, size of the set, whether pixels of the target are kept out.
        file: patches of the target's slide.
        index: the target.
        rng: source of randomness.

    Returns:
        (n, P, P, 3) uint8.
    """
    match style.sampler:
        case "multi_patch":
            chosen = multi_patch(style, file, index, rng)
            return np.stack([turned(file.image(int(one)), rng) for one in chosen])
        case "nearby":
            return nearby(style, file, index, rng)[None]
        case "augmented":
            return augmented(file.image(index), rng)[None]
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


def nearby(style: Style, file: PatchFile, index: int, rng: np.random.Generator) -> np.ndarray:
    """An image offset from the target by at most one patch in x and y, put together from the stored patches.

    With `exclude_overlap` the offset is a whole patch in x or in y, so that no pixel of the target is seen. Where the
    neighbours that an offset needs are missing (background), another offset is tried; after 20 the target's nearest
    other patch is taken.
    """
    side = int(side_level0(file))
    for _ in range(20):
        offset = rng.integers(-side, side + 1, 2)
        if style.exclude_overlap:
            offset[rng.integers(2)] = rng.choice([-side, side])
        if (image := mosaic(file, file.coords[index] + offset)) is not None:
            return image
    others = candidates(style, file, index)
    others = others[others != index]
    if not len(others):
        raise UserError(f"{file.path}: patch {index} has no neighbour; set style.sampler to `augmented`")
    distance = np.abs(file.coords[others] - file.coords[index]).max(1)
    return file.image(int(others[distance.argmin()]))


def mosaic(file: PatchFile, corner: np.ndarray) -> np.ndarray | None:
    """The patch-sized image at a level-0 corner, from stored patches; None where they do not cover it."""
    side, size = side_level0(file), int(file.attributes["patch_size"])
    near = np.flatnonzero((np.abs(file.coords - corner) < side).all(1))
    image = np.zeros((size, size, 3), np.uint8)
    covered = np.zeros((size, size), bool)
    for one in near:
        x, y = np.rint((file.coords[one] - corner) * size / side).astype(int)
        here = np.s_[max(y, 0) : size + min(y, 0), max(x, 0) : size + min(x, 0)]
        there = np.s_[max(-y, 0) : size + min(-y, 0), max(-x, 0) : size + min(-x, 0)]
        image[here] = file.image(int(one))[there]
        covered[here] = True
    return image if covered.all() else None


def augmented(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image itself: turned, flipped, and shifted around its borders by a random amount."""
    shift = rng.integers(0, len(image), 2)
    return turned(np.roll(image, tuple(shift), (0, 1)), rng)


def turned(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the eight flips and quarter turns."""
    return dihedral(image, int(rng.integers(8)))


def side_level0(file: PatchFile) -> float:
    """Side of a patch in level-0 pixels."""
    return float(file.attributes["patch_size"]) * float(file.attributes["downsample"])
