"""All slides of a study at a glance: overviews with name, patient, group, number of patches and status."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stedm.figures.names import Names
from stedm.files import written_whole
from stedm.seals import check_unchanged
from stedm.sheet import slides_by_name
from stedm.slides.overview import PICTURE
from stedm.store import patch_file

DPI = 150
PAGE = 11.7, 8.3
"""Inches: A4, landscape."""
COLUMNS, ROWS = 6, 4
"""At most on a page; fewer slides are shown larger."""
MARGIN, TITLE, CAPTION, GAP, LINE = 30, 50, 60, 16, 17
"""Pixels: page margin, height of the title, caption below each slide, gap between slides, line height."""
SAME_BYTES: dict[str, Any] = {"title": "Contact sheet", "creationDate": None, "modDate": None}
"""Metadata of the PDF: by default Pillow writes the time and the name of the temporary file."""
GREY, PROBLEM = "#555555", "#b00020"


@dataclass(frozen=True)
class Entry:
    """A slide of the sheet, under the names that the figure shows."""

    slide: str
    patient: str
    group: str
    patches: int
    status: str
    overview: Path


def plot_contact_sheet(
    sheet: Path, patches: Path, overviews: Path, *, out: Path, pseudonyms: Path | None = None
) -> None:
    """Plot all slides, 24 on a page, those with a problem first.

    Args:
        sheet: sheet that `write_sheet` wrote.
        patches: folder of patch files.
        overviews: folder of the overviews, {slide}.png.
        out: PNG file of the first page; a PDF of all pages is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.
    """
    names = Names(pseudonyms)
    entries = [read_entry(slide, names, patches, overviews) for slide in slides_by_name(sheet)]
    entries.sort(key=lambda entry: entry.status == "ok")
    page_size = COLUMNS * ROWS
    columns, rows = layout(min(len(entries), page_size))
    pages = [entries[start : start + page_size] for start in range(0, len(entries), page_size)]
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out.with_suffix(".pdf")) as pdf:
        for number, some in enumerate(pages, start=1):
            where = f", page {number} of {len(pages)}" if len(pages) > 1 else ""
            if number == 1:
                note = f" (all pages: {out.with_suffix('.pdf').name})" if where else ""
                with written_whole(out) as png:
                    plot_page(some, columns, rows, summary(entries) + where + note).save(png, "PNG")
            page = plot_page(some, columns, rows, summary(entries) + where)
            page.save(pdf, "PDF", append=number > 1, resolution=DPI, quality=90, **SAME_BYTES)


def read_entry(slide: str, names: Names, patches: Path, overviews: Path) -> Entry:
    file = patch_file(patches, slide)
    patient, group, status = (str(file.attributes[name]) for name in ("patient", "group", "status"))
    overview = overviews / f"{slide}.png"
    return Entry(names.slide(slide), names.patient(patient), group, len(file), status, overview)


def summary(entries: Sequence[Entry]) -> str:
    """Number of slides, patients and patches, and of slides with each status."""
    statuses = Counter(entry.status for entry in entries)
    patients = len({entry.patient for entry in entries})
    counts = ", ".join(f"{count:,} {status}" for status, count in statuses.most_common())
    total = sum(entry.patches for entry in entries)
    return f"{len(entries):,} slides of {patients:,} patients, {total:,} patches; {counts}"


def layout(slides: int) -> tuple[int, int]:
    """Columns and rows of a page, as few as needed for the slides."""
    shapes = [(columns, max(1, round(columns * ROWS / COLUMNS))) for columns in range(1, COLUMNS + 1)]
    columns = next(columns for columns, rows in shapes if columns * rows >= slides)
    return columns, -(-slides // columns)


def plot_page(entries: Sequence[Entry], columns: int, rows: int, title: str) -> Image.Image:
    """One page: the pictures, then the text over them."""
    width, height = (round(side * DPI) for side in PAGE)
    across = (width - 2 * MARGIN - (columns - 1) * GAP) // columns
    down = (height - 2 * MARGIN - TITLE - (rows - 1) * GAP) // rows
    page = Image.new("RGB", (width, height), "white")
    fig = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)

    def write(x: float, y: float, text: str, size: float, **style: Any) -> None:
        fig.text(x / width, 1 - y / height, text, fontsize=size, va="top", parse_math=False, **style)

    write(MARGIN, MARGIN, title, 10)
    for index, entry in enumerate(entries):
        row, column = divmod(index, columns)
        left, top = MARGIN + column * (across + GAP), MARGIN + TITLE + row * (down + GAP)
        picture = slide_picture(entry.overview)
        picture.thumbnail((across, down - CAPTION), Image.Resampling.LANCZOS)
        page.paste(picture, (left + (across - picture.width) // 2, top + (down - CAPTION - picture.height) // 2))
        longest = across // 10
        count = f"{entry.patches:,} patch" + ("" if entry.patches == 1 else "es")
        ok = entry.status == "ok"
        lines = (
            (shortened(entry.slide, longest), {"weight": "bold"}),
            (shortened(" · ".join(filter(None, (entry.patient, entry.group))), longest), {"color": GREY}),
            (count, {"color": GREY}) if ok else (f"{count}, {entry.status}", {"color": PROBLEM, "weight": "bold"}),
        )
        for number, (text, style) in enumerate(lines):
            write(left + across / 2, top + down - CAPTION + 4 + number * LINE, text, 6.5, ha="center", **style)
    fig.figimage(np.asarray(page), zorder=-1)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def slide_picture(overview: Path) -> Image.Image:
    """The slide in an overview, without title and legend."""
    check_unchanged(overview)
    with Image.open(overview) as image:
        left, upper, right, lower = map(int, image.info[PICTURE].split())
        return image.convert("RGB").crop((left, upper, right, lower))


def shortened(text: str, length: int) -> str:
    """A text of at most this many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
