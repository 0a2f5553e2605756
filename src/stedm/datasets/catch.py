"""CATCH: 350 slides of seven canine cutaneous tumours with polygons of 13 classes (Wilm et al. 2022, Sci Data 9:588).

Layout: slides `<subtype>_<patient>_<slide>.svs` in any subfolder, `CATCH.json` (COCO; one file for all slides), and the
authors' `datasets.csv` (`Slide;Dataset;Scanner`).
"""

import csv
import json
from pathlib import Path

from stedm.datasets.found import Found
from stedm.errors import UserError
from stedm.sheet import Slide

ROLES = {"train": "annotated", "val": "validation", "test": "test"}


def find(folder: Path) -> Found:
    """Slides with their patient, subtype (as group) and role: `train` is annotated, `val` validation, `test` test.

    Raises:
        UserError: `CATCH.json` or `datasets.csv` cannot be read.
    """
    table, annotation = folder / "datasets.csv", folder / "CATCH.json"
    roles, annotated = read_roles(table), read_names(annotation)
    found = Found()
    images = found.by_name(folder.rglob("*.svs"))
    for name, role in roles.items():
        stem = name.removesuffix(".svs")
        if role not in ROLES:
            found.problems.append(f"{table}, {name}: Dataset {role!r} is not one of {', '.join(ROLES)}")
        elif name not in annotated:
            found.problems.append(f"{annotation}: has no image {name!r}, which {table} lists; download both again")
        elif stem not in images:
            found.missing.append(f"{folder}: has no slide {name}")
        else:
            patient, subtype = stem.rpartition("_")[0], stem.partition("_")[0]
            found.slides.append(Slide(stem, patient, images[stem], annotation, subtype, split=ROLES[role]))
    found.problems += [f"{annotation}: {name!r} is not in {table}" for name in sorted(annotated - roles.keys())]
    found.problems += [f"{path}: is not in {table}" for path in images.values() if path.name not in roles]
    return found


def read_roles(table: Path) -> dict[str, str]:
    """Column `Dataset` by file name."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return {row["Slide"]: row["Dataset"] for row in csv.DictReader(file, delimiter=";")}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise UserError(
            f"{table}: cannot be read as a table with the columns Slide;Dataset ({error!r}); download it from the"
            " authors' repository"
        ) from error


def read_names(annotation: Path) -> set[str]:
    """File names of the images of a COCO file."""
    try:
        return {image["file_name"] for image in json.loads(annotation.read_text(encoding="utf-8"))["images"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{annotation}: cannot be read as COCO ({error!r}); download it again") from error
