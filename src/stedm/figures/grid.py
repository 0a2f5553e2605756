"""The grid of layouts and styles: what the generator makes of each pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stedm.config import TissueClass
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, mosaic, show
from stedm.store import PatchFile, patch_file
from stedm.tables import read_table


def read_grid(manifest: Path, images: Path, patches: Path) -> dict[str, Any]:
    """What `draw_grid` takes, but the classes, from a grid's manifest and the images that were drawn of it.

    Args:
        manifest: CSV of `plan_grid`.
        images: patch file of the drawn images, in the manifest's order.
        patches: folder of the slides' patch files.
    """
    table = read_table(manifest)
    across = table[table["seed"].eq(table["seed"].iloc[0])]
    columns = len(across)
    down = table.iloc[::columns]
    file = PatchFile(images)
    drawn = np.concatenate(list(file.images()))
    styles = []
    for row in across.to_dict("records"):
        source = patch_file(patches, row["style_slide"])
        styles.append(np.stack([source.image(int(index)) for index in row["style_patches"].split()]))
    return {
        "layouts": np.stack([file.labels(index) for index in range(0, len(table), columns)]),
        "styles": styles,
        "drawn": drawn.reshape(-1, columns, *drawn.shape[1:]),
        "layout_names": down["layout_slide"].tolist(),
        "style_names": across["style_patient"].tolist(),
    }


def draw_grid(
    layouts: np.ndarray,
    styles: Sequence[np.ndarray],
    drawn: np.ndarray,
    classes: Sequence[TissueClass],
    layout_names: Sequence[str],
    style_names: Sequence[str],
    out: Path,
) -> None:
    """Layouts in the first column, style images in the first row, and in between the image drawn of both.

    Args:
        layouts: (R, H, W) uint8 labels, 255 = not annotated.
        styles: for each of C style sets its images (n, H, W, 3) uint8; four are shown, or one where there are fewer.
        drawn: (R, C, H, W, 3) uint8.
        classes: of the labels.
        layout_names: R names of where the layouts are from.
        style_names: C names of the style patients.
        out: PNG file; a PDF is written beside it.
    """
    rows, columns = drawn.shape[:2]
    cell = min(26 * MM, (WIDTH - 6 * MM) / (columns + 1))
    with figure((columns + 1) * cell + 6 * MM, (rows + 1) * cell + 14 * MM, out, gap=0.012) as figure_:
        grid = figure_.subplots(rows + 1, columns + 1, squeeze=False)
        corner = grid[0, 0]
        corner.axis("off")
        corner.text(0.95, 0.5, "style →", ha="right", va="center", transform=corner.transAxes, style="italic")
        corner.text(0.5, 0.05, "layout ↓", ha="center", va="bottom", transform=corner.transAxes, style="italic")
        for column, (images, name) in enumerate(zip(styles, style_names, strict=True), start=1):
            show(grid[0, column], mosaic(images))
            grid[0, column].set_title(name, pad=2, fontsize=min(7, 110 * cell / len(name)))  # as wide as its column
            frame(grid[0, column])
        for row, (layout, name) in enumerate(zip(layouts, layout_names, strict=True), start=1):
            show(grid[row, 0], coloured(layout, classes))
            grid[row, 0].set_ylabel(name)
            frame(grid[row, 0])
            for column in range(columns):
                show(grid[row, column + 1], drawn[row - 1, column])
        class_legend(figure_, classes)


def frame(axes: Axes) -> None:
    """A heavier frame around what was given, not drawn."""
    for spine in axes.spines.values():
        spine.set(linewidth=1.0, color="#000000")
