"""Recolouring: annotated patches in the colours and spectrum of unannotated slides, in closed form."""

from collections.abc import Iterator, Mapping, Sequence

from stedm.images import to_images, to_pixels
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.style import moments
from stedm.synthesis.plan import Row, layout_of, patch_of
from stedm.synthesis.shard import batches


def recolour(rows: Sequence[Row], files: Mapping[str, PatchFile]) -> Iterator[Generated]:
    """The patch of each row's layout, moved as the layout is, recoloured from the moments of its own slide to those of
    the style's slide (`stedm.style.moments`).

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
    """
    of = {name: moments.slide_moments(file) for name, file in files.items()}
    for some in batches(rows):
        for row in some:
            image = to_images(patch_of(row, files))[None]
            recoloured = moments.recolour(image, of[row["layout_slide"]], of[row["style_slide"]])
            yield Generated(int(row["image"]), to_pixels(recoloured)[0], layout_of(row, files), 0)
