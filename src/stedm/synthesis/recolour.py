"""Recolouring: annotated patches in the colours and spectrum of unannotated slides, in closed form."""

from collections.abc import Iterator, Mapping, Sequence

import cv2

from stedm.images import to_images, to_pixels
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.style.moments import remove_moments, restore_moments, slide_moments
from stedm.synthesis.plan import Row, layout_of, matrix_of, warp
from stedm.synthesis.shard import batches


def recolour(rows: Sequence[Row], files: Mapping[str, PatchFile]) -> Iterator[Generated]:
    """The patch of each row's layout, moved as the layout is, whitened by the moments of its own slide and given those
    of the style's slide (`stedm.style.moments`).

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
    """
    moments = {name: slide_moments(file) for name, file in files.items()}
    for some in batches(rows):
        for row in some:
            patch = files[row["layout_slide"]].image(int(row["layout_patch"]))
            image = to_images(warp(patch, matrix_of(row), cv2.INTER_CUBIC))[None]
            whitened = remove_moments(image, *moments[row["layout_slide"]])
            recoloured = restore_moments(whitened, *moments[row["style_slide"]])
            yield Generated(int(row["image"]), to_pixels(recoloured)[0], layout_of(row, files), 0)
