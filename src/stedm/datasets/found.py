"""What was found in the folder of a data set, and the sample sheet made from it."""

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.sheet import Slide, check_together, write_sheet

log = logging.getLogger(__name__)


@dataclass
class Found:
    """Slides of a data set, and one message per problem.

    Attributes:
        slides: slides that are present, with everything the data set records about them.
        missing: files that the data set lists but the folder lacks: not downloaded, or lost.
        problems: everything that an incomplete download does not explain, such as an annotation of an unknown slide.
    """

    slides: list[Slide] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def by_name(self, paths: Iterable[Path]) -> dict[str, Path]:
        """Files by name without extension; two files of one name are a problem. Hidden files are skipped."""
        files: dict[str, Path] = {}
        for path in sorted(path for path in paths if not path.name.startswith(".")):
            if path.stem in files:
                self.problems.append(f"{path}: has the same name as {files[path.stem]}; keep one of them")
            files.setdefault(path.stem, path)
        return files


def write_found(found: Found, folder: Path, out: Path, partial: bool = False) -> None:
    """Write a sample sheet; paths inside the sheet's folder become relative to it.

    Args:
        found: what was found in the folder.
        folder: of the data set, named in messages.
        out: the sheet, CSV.
        partial: leave missing slides out instead of reporting them.

    Raises:
        UserError: all problems.
    """
    problems = found.problems + ([] if partial else found.missing)
    if found.missing and not partial:
        problems.append(f"{folder}: download what is missing, or leave it out with --partial")
    if not found.slides:
        problems.append(f"{folder}: contains no slide of this data set; docs/datasets.md shows the expected layout")
    ordered = sorted(found.slides, key=lambda slide: slide.slide)
    problems += check_together(out, list(enumerate(ordered, start=2)))
    if problems:
        raise UserError(problems)
    if found.missing:
        log.warning("%d slides are left out because they are not in %s", len(found.missing), folder)
    slides = [
        replace(
            slide,
            path=relative_path(slide.path, out.parent),
            annotation=None if slide.annotation is None else relative_path(slide.annotation, out.parent),
        )
        for slide in ordered
    ]
    with written_whole(out) as temporary:
        write_sheet(temporary, slides)


def relative_path(path: Path, folder: Path) -> Path:
    """A path relative to a folder that contains it, else absolute."""
    absolute, here = (Path(os.path.normpath(item.absolute())) for item in (path, folder))
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def tcga_patient(name: str) -> str:
    """The patient of a TCGA barcode: TCGA-A1-A0SK of TCGA-A1-A0SK-01Z-00-DX1."""
    return "-".join(name.split("-")[:3])
