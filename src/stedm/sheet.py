"""The sample sheet: one row per slide."""

import logging
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from stedm.config import Patches, Slides, Study, choices
from stedm.config.base import one_line, unshowable
from stedm.errors import UserError
from stedm.files import check_regular, written_whole
from stedm.seals import check_unchanged, is_ours
from stedm.spreadsheet import Row, read_csv
from stedm.tables import changed_texts, plain, safe_for_spreadsheets

REQUIRED = ("slide", "patient", "path")
OPTIONAL = ("annotation", "group", "mpp", "split")
MOST_PROBLEMS = 1000
"""That are told at once."""
ROLES = ("annotated", "unannotated", "validation", "test")
MASKS = (".png", ".tif", ".tiff", ".geojson", ".json")
COORDS = (".h5", "_patches.h5")
NAME = re.compile(r"\w[\w.-]*")
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""How the path of a file begins that lies in a storage, such as s3://bucket/slide.svs."""
LONGEST_NAME = 100
"""Bytes; file names may have 255, of which extensions and temporary names need some."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Slide:
    """One row of the sheet, with resolved paths."""

    slide: str
    patient: str
    path: Path
    annotation: Path | None = None
    group: str = ""
    mpp: float | None = None
    split: str = ""

    def record(self) -> dict[str, str | float | None]:
        """The row as JSON-like values."""
        return {key: str(value) if isinstance(value, Path) else value for key, value in asdict(self).items()}


def read_sheet(options: Slides, made_here: bool = False, fetched: Callable[[str], Path] | None = None) -> list[Slide]:
    """Read and validate a sample sheet.

    Args:
        options: path of the sheet, the folder in which its relative paths start, and the resolution of slides for which
            the sheet gives none.
        made_here: the study renders the slides itself, so files may not exist yet.
        fetched: where a file of a storage will lie before a job reads it, by its URL; None: nobody fetches it.

    Raises:
        UserError: all problems of the sheet, each with its line number.
    """
    sheet = Path(options.sheet)
    check_regular(sheet)
    header, rows = read_csv(sheet, REQUIRED + OPTIONAL)
    problems = check_header(sheet, header)
    if not rows and not problems:
        problems.append(f"{sheet}: has no rows; add one per slide")
    if problems:
        raise UserError(problems)
    root = Path(options.root) if options.root else sheet.parent
    slides = []
    for number, row in rows:
        values = {key: plain(value) for key, value in row.items()}
        slide, wrong = read_row(values, root, made_here, options.mpp, fetched)
        problems += [f"{sheet}, line {number} (slide {slide.slide!r}): {text}" for text in wrong]
        slides.append((number, slide))
        if len(problems) >= MOST_PROBLEMS:
            raise UserError([*problems, f"{sheet}: so much for now; the rows after line {number} were not looked at"])
    problems += check_together(sheet, slides)
    if problems:
        raise UserError(problems)
    return [slide for _, slide in slides]


def check_header(sheet: Path, header: Row) -> list[str]:
    known = REQUIRED + OPTIONAL
    missing = [f"the column {name!r} is missing" for name in REQUIRED if name not in header.cells]
    unknown = [f"there is no column {name!r}; {choices(name, known)}" for name in header.cells if name not in known]
    return [f"{sheet}, line {header.line}: {problem}" for problem in missing + unknown]


def read_row(
    values: dict[str, str],
    root: Path,
    made_here: bool,
    default_mpp: float | None = None,
    fetched: Callable[[str], Path] | None = None,
) -> tuple[Slide, list[str]]:
    """One row as a `Slide`, and its problems."""
    problems = []
    names = {column: unicodedata.normalize("NFC", values.get(column, "")) for column in ("slide", "patient", "group")}
    names["group"] = one_line(names["group"])
    for column in ("slide", "patient"):
        if not NAME.fullmatch(names[column]):
            problems.append(
                f"{column} {names[column]!r} is not a valid name; use letters, digits, '.', '_' and '-',"
                " starting with a letter or digit"
            )
        elif (length := len(names[column].encode())) > LONGEST_NAME:
            problems.append(f"{column} is {length} bytes long; use at most {LONGEST_NAME}")
    paths: dict[str, Path | None] = {"path": None, "annotation": None}
    for column in paths:
        text = values.get(column, "")
        if URL.match(text):
            if fetched is None:
                problems.append(f"{column}: only the workflow fetches {text}; run it, or download the file")
            else:
                paths[column] = fetched(text)
        elif text:
            path = paths[column] = as_the_system_resolves(root / text)
            if not made_here and not os.path.isfile(path):  # noqa: PTH113, as Path.is_file fails for a very long name
                what = f"{path} is not a file" if os.path.exists(path) else f"there is no file {path}"  # noqa: PTH110
                remedy = "write / instead of \\" if "\\" in text else "correct the path, or set slides.root"
                problems.append(f"{column}: {what}; {remedy}")
        elif column == "path":
            problems.append("path is empty; enter the image file")
    mpp = default_mpp
    if text := values.get("mpp", ""):
        mpp = positive_number(text)
        if mpp is None:
            problems.append(f"mpp {text!r} is not a positive number of micrometres per pixel")
    role = values.get("split", "")
    if role and role not in ROLES:
        problems.append(f"split {role!r} is not one of {', '.join(ROLES)}")
    if wrong := unshowable(names["group"]):
        problems.append(f"group: the characters {wrong!r} cannot be shown; leave them out")
    path, annotation = paths["path"] or Path(), paths["annotation"]
    return Slide(path=path, annotation=annotation, mpp=mpp, split=role, **names), problems


def as_the_system_resolves(path: Path) -> Path:
    """The path without `..`; where a link comes before `..`, the folder above what the link points to."""
    without = Path(os.path.normpath(path))
    if ".." not in path.parts or os.path.realpath(without) == os.path.realpath(path):
        return without
    return Path(os.path.realpath(path.parent)) / path.name


def positive_number(text: str) -> float | None:
    """A positive number, which may have a decimal comma; None for anything else."""
    try:
        number = float(text.replace(",", ".") if "." not in text else text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def check_together(sheet: Path, slides: list[tuple[int, Slide]]) -> list[str]:
    """Conflicts between rows: repeated names, one file in two rows, a patient in two splits."""
    problems = []
    names: dict[str, int] = {}
    files: dict[str, tuple[int, Slide]] = {}
    patients: dict[str, tuple[int, Slide]] = {}
    for number, slide in slides:
        line = names.setdefault(slide.slide.casefold(), number)  # laptops treat A.h5 and a.h5 as the same file
        if line != number:
            problems.append(f"{sheet}, line {number}: slide {slide.slide!r} is already on line {line}")
        line, other = files.setdefault(os.path.realpath(slide.path), (number, slide))
        if line != number and slide.path != Path():
            problems.append(
                f"{sheet}, line {number} (slide {slide.slide!r}): path: {slide.path} is the file of slide"
                f" {other.slide!r} on line {line}; keep one of the two rows"
            )
        line, other = patients.setdefault(slide.patient, (number, slide))
        if slide.split != other.split:
            problems.append(
                f"{sheet}, line {number}: patient {slide.patient!r} has split {slide.split!r}, but {other.split!r} on"
                f" line {line}; a patient has one split"
            )
    return problems


def similar_names(slides: Sequence[Slide]) -> list[str]:
    """Questions about patients and groups whose names differ only in upper and lower case."""
    questions = []
    for column in ("patient", "group"):
        spellings: dict[str, set[str]] = {}
        for slide in slides:
            name = getattr(slide, column)
            spellings.setdefault(name.casefold(), set()).add(name)
        questions += [
            f"{' and '.join(map(repr, sorted(names)))} count as {len(names)} different {column}s; if they are the same,"
            " spell them alike"
            for names in spellings.values()
            if len(names) > 1
        ]
    return questions


def path_pattern(slides: Sequence[Slide], column: str) -> str:
    """The paths of a column as one pattern, `{slide}` in place of the slide's name; column: "path" or "annotation".

    Raises:
        UserError: the files lie in several folders, or are not named after their slides.
    """
    paths = [(slide.slide, getattr(slide, column) or Path()) for slide in slides]
    patterns = {
        str(path.with_name(path.name.replace(f"{name}.", "{slide}.", 1))) if path.name.startswith(f"{name}.") else ""
        for name, path in paths
    }
    if len(patterns) > 1 or "" in patterns:
        raise UserError(
            f"slides.sheet, column {column}: rendered files must lie in one folder and be named after the column slide,"
            " such as P01.tiff and P01.geojson; rename them"
        )
    pattern = patterns.pop()
    if set("{}") & set(pattern.replace("{slide}.", "", 1)):
        raise UserError(
            f"slides.sheet, column {column}: {pattern} has braces, which Snakemake reads as wildcards; rename it"
        )
    return pattern


def read_study_sheet(study: Study, fetched: Callable[[str], Path] | None = None) -> list[Slide]:
    """The sheet of a study; phantoms need not have been rendered yet. Questions that it raises are logged.

    Raises:
        UserError: the sheet is wrong, or files where phantoms would be rendered are the user's: Snakemake would remove
            them.
    """
    slides = read_sheet(study.slides, study.phantoms is not None, fetched)
    for question in similar_names(slides):
        log.warning("%s: %s", study.slides.sheet, question)
    if study.phantoms is not None:
        files = [path for slide in slides for path in (slide.path, slide.annotation) if path is not None]
        if users := [path for path in files if (path.exists() or path.is_symlink()) and not is_ours(path)]:
            raise UserError(
                f"phantoms: {study.slides.sheet} names {len(users)} files that are there and were not rendered, such as"
                f" {users[0]}; rendering would replace them. Remove the section phantoms to use your slides, or move"
                " them away"
            )
    return slides


def companion(slide: str, folder: str, endings: Sequence[str], key: str) -> Path:
    """The file of a slide in a folder supplied by the user.

    Raises:
        UserError: there is none, or more than one; `key` is the configuration key of the folder.
    """
    paths = [Path(folder) / f"{slide}{ending}" for ending in endings]
    found = [path for path in paths if path.exists()]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{key}, slide {slide!r}: {' and '.join(map(str, found))} both exist; keep one of them")
    raise UserError(f"{key}, slide {slide!r}: there is no file {paths[0]} (or ending in {', '.join(endings[1:])})")


def tissue_file(slide: str, patches: Patches) -> Path | None:
    """The user-supplied tissue mask of a slide."""
    if patches.tissue is None or patches.tissue.masks is None:
        return None
    return companion(slide, patches.tissue.masks, MASKS, "patches.tissue.masks")


def coords_file(slide: str, patches: Patches) -> Path | None:
    """The user-supplied coordinates of a slide."""
    return None if patches.coords is None else companion(slide, patches.coords, COORDS, "patches.coords")


def find_companions(slides: Sequence[Slide], patches: Patches) -> dict[str, list[Path]]:
    """User-supplied masks and coordinates, by slide.

    Raises:
        UserError: all missing files.
    """
    found: dict[str, list[Path]] = {}
    problems = []
    for slide in slides:
        for find in (tissue_file, coords_file):
            try:
                path = find(slide.slide, patches)
                found.setdefault(slide.slide, []).extend([] if path is None else [path])
            except UserError as error:
                problems += error.messages
    if problems:
        raise UserError(problems)
    return found


def write_sheet(path: Path, slides: list[Slide]) -> None:
    """Write a sheet with resolved paths, for the commands of later stages."""
    table = pd.DataFrame([slide.record() for slide in slides], columns=[*REQUIRED, *OPTIONAL])
    with written_whole(path) as temporary:
        changed_texts(table, safe_for_spreadsheets).to_csv(temporary, index=False)


def slides_by_name(path: Path) -> dict[str, Slide]:
    """The rows of a sheet that `write_sheet` wrote, by slide.

    Raises:
        UserError: it was changed or cut short since.
    """
    check_unchanged(path)
    return {slide.slide: slide for slide in read_sheet(Slides(sheet=str(path), root="."), made_here=True)}
