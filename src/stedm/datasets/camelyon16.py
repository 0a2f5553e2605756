"""Camelyon16: 399 slides of sentinel lymph nodes, metastases outlined (Litjens et al. 2018, GigaScience 7:6).

Layout: `normal_001.tif`, `tumor_001.tif`, `test_001.tif`, … and XML files of ASAP with the same names, in any subfolder
(`training/normal`, `training/tumor`, `training/lesion_annotations`, `testing/images`, … or, in later releases, `images`
and `annotations`), and `reference.csv`, which distinguishes test slides with tumour from those without.
"""

import csv
import logging
from pathlib import Path

from stedm.datasets.found import Found
from stedm.errors import UserError
from stedm.files import write_json
from stedm.sheet import Slide

OTHER = {"masks", "background_tissue", "evaluation"}
"""Folders that contain neither slides nor outlines."""
WITHDRAWN = {
    "normal_086": "it shows a tumour and is published as tumor_111",
    "test_049": "it is a duplicate",
    "test_114": "not all of its tumours are annotated, so it cannot be scored",
}
INCOMPLETE = {f"tumor_{number:03}" for number in (10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67)} | {
    f"tumor_{number:03}" for number in (79, 85, 92, 95, 110)
}
"""Training slides whose tumour is not annotated completely, according to the data set's README."""

log = logging.getLogger(__name__)


def find(folder: Path, nothing: Path) -> Found:
    """Slides, each its own patient, with group `normal` or `tumor`.

    Training slides are annotated, except that those with an incomplete annotation serve only as style sources.

    Args:
        folder: of the data set.
        nothing: GeoJSON file without shapes, written here: the annotation of slides without tumour.

    Raises:
        UserError: test slides with and without tumour cannot be distinguished.
    """
    found = Found()
    images, outlines = (
        {name.lower(): path for name, path in found.by_name(published(folder, ending)).items()}
        for ending in ("tif", "xml")
    )
    reference = read_reference(folder) if any(name.startswith("test_") for name in images) else {}
    for name in sorted(images | reference | outlines):
        group = reference.get(name, name.partition("_")[0])
        if name in WITHDRAWN:
            log.info("%s is left out: %s", name, WITHDRAWN[name])
        elif group not in ("normal", "tumor"):
            found.problems.append(f"{images.get(name, outlines.get(name))}: belongs to none of the data set's slides")
        elif name not in images:
            found.missing.append(f"{folder}: has no slide {name}.tif")
        elif group == "tumor" and name not in outlines:
            found.problems.append(f"{images[name]}: this slide has tumour, but its annotation {name}.xml is missing")
        elif group == "normal" and name in outlines:
            found.problems.append(f"{outlines[name]}: annotates a slide without tumour")
        else:
            role = "test" if name.startswith("test_") else "unannotated" if name in INCOMPLETE else "annotated"
            annotation = None if role == "unannotated" else outlines.get(name, nothing)
            found.slides.append(Slide(name, name, images[name], annotation, group, split=role))
    if any(slide.annotation == nothing for slide in found.slides):
        write_json(nothing, {"type": "FeatureCollection", "features": []})
    return found


def published(folder: Path, ending: str) -> list[Path]:
    """Slides or outlines, without the masks and tissue backgrounds published with them."""
    paths = [path for path in folder.rglob(f"*.{ending}") if not OTHER & set(path.relative_to(folder).parts)]
    return [path for path in paths if not path.stem.lower().endswith("_mask")]


def read_reference(folder: Path) -> dict[str, str]:
    """`normal` or `tumor` by test slide."""
    tables = sorted(folder.rglob("reference.csv"))
    if len(tables) != 1:
        raise UserError(
            f"{folder}: has {len(tables)} files reference.csv, but exactly one is needed to distinguish test slides"
            " with tumour from those without; it is published with the test slides"
        )
    with tables[0].open(newline="", encoding="utf-8-sig") as file:
        rows = [[field.strip().lower() for field in row] for row in csv.reader(file)]
    return {row[0].removesuffix(".tif"): row[1] for row in rows if len(row) > 1 and row[0].startswith("test_")}
