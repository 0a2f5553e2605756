"""All slides of a study at a glance: overviews with name, patient, group, number of patches and status.

Plotted with Pillow, as overviews are: with matplotlib it takes 1.6 times as long.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from stedm.figures.names import Names
from stedm.files import written_whole
from stedm.seals import check_unchanged
from stedm.sheet import slides_by_name
from stedm.slides import overview
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
LARGE, SMALL = 21, 14
"""Pixels of the fonts."""
GREY, PROBLEM = (85, 85, 85), (176, 0, 32)


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
            page = plot_page(some, columns, rows)
            if number == 1:
                note = f" (all pages: {out.with_suffix('.pdf').name})" if where else ""
                with written_whole(out) as png:
                    titled(page, summary(entries) + where + note).save(png, "PNG")
            page = titled(page, summary(entries) + where)
            page.save(pdf, "PDF", append=number > 1, resolution=DPI, quality=90, **SAME_BYTES)


def read_entry(slide: str, names: Names, patches: Path, overviews: Path) -> Entry:
    file = patch_file(patches, slide)
    patient, group, status = (str(file.attributes[name]) for name in ("patient", "group", "status"))
    return Entry(names.slide(slide), names.patient(patient), group, len(file), status, overviews / f"{slide}.png")


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


def plot_page(entries: Sequence[Entry], columns: int, rows: int) -> Image.Image:
    """One page, without its title."""
    width, height = (round(side * DPI) for side in PAGE)
    across = (width - 2 * MARGIN - (columns - 1) * GAP) // columns
    down = (height - 2 * MARGIN - TITLE - (rows - 1) * GAP) // rows
    page = Image.new("RGB", (width, height), "white")
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
            (shortened(entry.slide, longest), overview.BLACK, True),
            (shortened(" · ".join(filter(None, (entry.patient, entry.group))), longest), GREY, False),
            (count, GREY, False) if ok else (f"{count}, {entry.status}", PROBLEM, True),
        )
        for number, (text, colour, bold) in enumerate(lines):
            place = left + across / 2, top + down - CAPTION + 4 + number * LINE
            overview.write(page, place, text, SMALL, "ma", colour, bold)
    return page


def titled(page: Image.Image, title: str) -> Image.Image:
    page = page.copy()
    overview.write(page, (MARGIN, MARGIN), title, LARGE, "la")
    return page


def slide_picture(path: Path) -> Image.Image:
    """The slide in an overview, without title and legend."""
    check_unchanged(path)
    with Image.open(path) as image:
        left, upper, right, lower = map(int, image.info[overview.PICTURE].split())
        return image.convert("RGB").crop((left, upper, right, lower))


def shortened(text: str, length: int) -> str:
    """A text of at most this many characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
