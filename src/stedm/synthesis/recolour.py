"""Recolouring: annotated patches in the colours and spectrum of unannotated slides, in closed form."""

from collections.abc import Callable, Iterator, Mapping, Sequence

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
            recoloured = moments.recolour(image, of[row["layout_slide"]], target_moments(row, of.__getitem__))
            yield Generated(int(row["image"]), to_pixels(recoloured)[0], layout_of(row, files), 0)


def target_moments(row: Row, moments_of: Callable[[str], moments.Moments]) -> moments.Moments:
    """The moments (B = 1) that the image of a row of the plan gets, by those of each slide: its style's, mixed with
    those of its second style, if it has one."""
    own = moments_of(row["style_slide"])
    return moments.between(own, moments_of(row["other_slide"]), row["other_weight"]) if "other_slide" in row else own
