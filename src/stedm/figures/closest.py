"""Drawn images beside the training patches that they are closest to: has the generator copied?"""

from collections.abc import Sequence
from pathlib import Path

from stedm.figures.style import MM, WIDTH, figure, show
from stedm.store import PatchFile, patch_file
from stedm.tables import read_table

ROWS = ("drawn", "closest\ntraining patch")


def draw_closest(quality: Path, shards: Sequence[Path], patches: Path, out: Path, count: int = 8) -> None:
    """Above the drawn images that are closest to a training patch, closest first; below, that patch.

    Args:
        quality: folder of `judge_images`, with image, closest_slide, closest_patch, closest_distance in `images.csv`.
        shards: patch files of the drawn images; their first coordinate is the image's number.
        patches: folder of the slides' patch files.
        out: PNG file; a PDF is written beside it.
        count: how many pairs at most.
    """
    table = read_table(quality / "images.csv").nsmallest(count, "closest_distance")
    files = [PatchFile(path) for path in shards]
    places = {int(image): (file, index) for file in files for index, image in enumerate(file.coords[:, 0])}
    cell = min(26 * MM, (WIDTH - 14 * MM) / len(table))
    with figure(len(table) * cell + 14 * MM, 2 * cell + 10 * MM, out, gap=0.012) as drawn:
        grid = drawn.subplots(2, len(table), squeeze=False)
        for column, row in enumerate(table.to_dict("records")):
            file, index = places[int(row["image"])]
            real = patch_file(patches, row["closest_slide"]).image(int(row["closest_patch"]))
            show(grid[0, column], file.image(index), f"{row['closest_distance']:.3f}")
            show(grid[1, column], real)
            grid[1, column].set_xlabel(row["closest_slide"], labelpad=1.5)
        for axes, name in zip(grid[:, 0], ROWS, strict=True):
            axes.set_ylabel(name)
