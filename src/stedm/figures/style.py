"""What all figures share: journal widths and fonts, colours, and writing the files."""

import contextlib
import logging
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from stedm.config import TissueClass
from stedm.files import written_whole

MM = 1 / 25.4
WIDTH = 183 * MM
"""Inches: two columns of a journal."""
COLUMN = 89 * MM
DPI = 200
REFERENCE = "#4d4d4d"
PALETTE = ("#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart, without yellow, which is too pale on white."""
LABEL_WIDTH = 24

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same everywhere
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 7,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a dollar sign in a label is one
}


logging.getLogger("fontTools").setLevel(logging.WARNING)  # else each PDF logs a hundred lines about its fonts


@contextlib.contextmanager
def figure(width: float, height: float, out: Path, gap: float = 0.04) -> Iterator[Figure]:
    """A figure to plot in; when the block ends it is written as `out` (PNG) and, next to it, as PDF.

    The same plot gives the same bytes: no dates, no versions. Width, height and gap (around each of the axes) are in
    inches.
    """
    with mpl.rc_context(RC):
        layout = ConstrainedLayoutEngine(w_pad=gap, h_pad=gap, wspace=0.02, hspace=0.02)
        fig = Figure(figsize=(width, height), layout=layout)
        yield fig
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, metadata in ((out, {"Software": None}), (out.with_suffix(".pdf"), {"CreationDate": None})):
            with written_whole(path) as temporary:
                fig.savefig(temporary, dpi=DPI, format=path.suffix[1:], metadata=metadata)


def arm_colours(arms: Sequence[str], reference: str | None) -> dict[str, str]:
    """A colour per arm, in their order; the reference is grey."""
    others = [arm for arm in arms if arm != reference]
    colours = {arm: PALETTE[place % len(PALETTE)] for place, arm in enumerate(others)}
    return colours | ({reference: REFERENCE} if reference is not None else {})


def wrapped(label: str) -> str:
    """The label, wrapped into lines of about equal length."""
    lines = len(textwrap.wrap(label, LABEL_WIDTH))
    for width in range(len(label) // max(1, lines), LABEL_WIDTH):
        if len(textwrap.wrap(label, max(1, width), break_long_words=False)) <= lines:
            return textwrap.fill(label, max(1, width), break_long_words=False)
    return textwrap.fill(label, LABEL_WIDTH)


def coloured(labels: np.ndarray, classes: Sequence[TissueClass]) -> np.ndarray:
    """Label map (H, W) as an image (H, W, 3) float in [0, 1]; white where nothing is annotated."""
    table = np.ones((256, 3))
    for label, item in enumerate(classes):
        table[label] = to_rgb(item.color)
    return table[labels]


def show(axes: Axes, image: np.ndarray, title: str = "") -> None:
    """Show an image without axes, in a thin frame; photographs (uint8) are smoothed, label maps are not."""
    axes.imshow(image, interpolation="bicubic" if image.dtype == np.uint8 else "nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4, color="#808080")
    if title:
        axes.set_title(title, pad=2)


def class_legend(fig: Figure, classes: Sequence[TissueClass]) -> None:
    """The classes' colours, below the figure."""
    handles = [Patch(facecolor=item.color, edgecolor="#808080", linewidth=0.4, label=item.name) for item in classes]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1, handleheight=1)


def mosaic(images: np.ndarray, size: int = 2) -> np.ndarray:
    """Tile images (n, H, W, 3) uint8, size × size of them with white seams; where there are fewer, the first alone."""
    if len(images) < size**2:
        return images[0]
    seam = max(1, images.shape[1] // 24)
    framed = np.pad(images[: size**2], ((0, 0), (0, seam), (0, seam), (0, 0)), constant_values=255)
    rows = [np.hstack(list(framed[start : start + size])) for start in range(0, size**2, size)]
    return np.vstack(rows)[:-seam, :-seam]
