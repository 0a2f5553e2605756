"""Coordinates of patches that CLAM or TRIDENT wrote, to cut the patches there instead of on a grid of ours."""

from pathlib import Path

import numpy as np

from stedm.errors import UserError
from stedm.hdf5 import naming, open_file, read_all

TOLERANCE = 0.03
"""Magnifications are rounded: 256 px at "20×" are 512 level-0 pixels to TRIDENT, and 507 on a slide of 0.2525 µm/px."""


def read_coords(path: Path, dimensions: tuple[int, int], side: float) -> np.ndarray:
    """Read a coordinates file of CLAM (`patches/*.h5`), of TRIDENT (`*_patches.h5`), or a patch file of ours.

    Patches that reach beyond the slide, as CLAM makes them, are left out.

    Args:
        path: HDF5 with `coords` (N, 2), level-0 x, y of the upper left corners. Its attributes say how large patches
            are: `patch_size_level0` (TRIDENT), or `patch_size` times `downsample` (CLAM).
        dimensions: (width, height) of the slide's level 0.
        side: level-0 pixels of a side of our patches.

    Returns:
        (n, 2) int64.

    Raises:
        UserError: the file is damaged, another slide's, or of patches of another size.
    """
    with naming(path, "make it again with the tool that wrote it"), open_file(path) as file:
        coords, attributes = read_all(file["coords"]), file["coords"].attrs
        if "patch_size_level0" in attributes:
            theirs = float(attributes["patch_size_level0"])
        else:  # one number, or one for each axis
            theirs = float(attributes["patch_size"]) * float(np.ravel(attributes["downsample"])[0])
    if coords.ndim != 2 or coords.shape[1] != 2:
        raise UserError(f"{path}: coords has shape {coords.shape}; (N, 2) is needed, x and y of each patch")
    if abs(theirs / side - 1) > TOLERANCE:
        raise UserError(
            f"{path}: its patches are {theirs:.0f} level-0 pixels a side, those of patches.size and patches.mpp are"
            f" {side:.0f}; set these to what the file was made with, or make it again with these"
        )
    corners = np.rint(coords).astype(np.int64)
    if len(corners) and ((corners < 0) | (corners >= dimensions)).any():
        raise UserError(
            f"{path}: has patches outside of the slide, which is {dimensions[0]} × {dimensions[1]} px; is it another"
            " slide's?"
        )
    return corners[(corners + side <= np.array(dimensions) + 0.5).all(1)]
