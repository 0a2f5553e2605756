"""Open every slide and every annotation before hours are spent, and say at once all that is wrong."""

import filecmp
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from stedm.config import CheckOptions, PatchesOptions
from stedm.errors import UserError, listed
from stedm.files import file_fingerprint, written_whole
from stedm.sheet import Slide, coords_file, tissue_file
from stedm.slides.annotations import Annotation, read_annotation
from stedm.slides.coords import read_coords
from stedm.slides.open import OpenedSlide, UnreadableSlide, named, open_slide, patch_level
from stedm.slides.patches import places
from stedm.slides.tissue import tissue_mask
from stedm.tables import CHECK

PROBE = 64
"""Pixels of the regions that are read to find broken files."""
THREADS = 4
PICTURE = 2048

log = logging.getLogger(__name__)


class ClassArea(NamedTuple):
    """Annotated area of a class, in level-0 pixels, and number of patches with a pixel of it: both from a picture of
    the slide with at most `PICTURE` pixels along its longer side."""

    area: float
    patches: int


@dataclass
class Finding:
    """A row of the check's table; areas in mm² where the slide has a scale, and in level-0 pixels; names of
    classes with blanks between them; number of patches that have tissue."""

    slide: str
    patient: str
    status: str = "ok"
    problem: str = ""
    reader: str = ""
    width: int | None = None
    height: int | None = None
    levels: int | None = None
    mpp: float | None = None
    mpp_source: str = ""
    objective: float | None = None
    tissue_fraction: float | None = None
    annotation_format: str = ""
    annotated_area_mm2: float | None = None
    annotated_area_px: float | None = None
    annotated_classes: str = ""
    patches: int | None = None
    classes: dict[str, ClassArea] = field(default_factory=dict)
    fingerprint: str = ""

    def record(self) -> dict[str, Any]:
        """A row of the table: areas and patches of each class in columns of their own."""
        row = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "classes"}
        for name, found in self.classes.items():
            scale = None if self.mpp is None else (self.mpp / 1000) ** 2
            row[f"{name}_area_mm2"] = None if scale is None else found.area * scale
            row[f"{name}_area_px"], row[f"{name}_patches"] = found.area, found.patches
        return row


def check_slides(options: CheckOptions, slides: Sequence[Slide], *, out: Path) -> None:
    """Check all slides and write the table of what was found, one row per slide.

    The status is "ok" (`problem` may hold notes); "incomplete": some tiles are broken, patches on them will be left
    out; "quarantined": unreadable, the study goes on without it; "no tissue": likewise; "error": what only the user can
    decide (no resolution, unknown classes, wrong coordinates).

    Args:
        options: classes; how annotation files are read; size, resolution and tissue; strict: quarantined and
            incomplete slides, and those without tissue, are errors too.
        slides: the rows of the sheet.
        out: the table, CSV.

    Raises:
        UserError: all errors, one message each. The table is written before; where Snakemake deletes it as the output
            of a job that failed, the messages are in the log.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        work = pool.map(lambda slide: check_slide(options, slide), slides)
        findings = list(tqdm(work, "Checking slides", len(slides), disable=None))
    find_copies(slides, findings)
    with written_whole(out) as temporary:
        CHECK.write(pd.DataFrame([item.record() for item in findings]), temporary)
    stopping = ("error", "quarantined", "incomplete", "no tissue") if options.strict else ("error",)
    for item in findings:
        if item.problem and item.status not in stopping:
            log.log(logging.INFO if item.status == "ok" else logging.WARNING, "%s: %s", item.status, item.problem)
    for warning in missing_classes(slides, findings, options) + small_style_sets(findings, options.style_images):
        log.warning("%s", warning)
    counts = pd.Series([item.status for item in findings]).value_counts()
    log.info("%s", ", ".join(f"{count} {status}" for status, count in counts.items()))
    if messages := [item.problem for item in findings if item.status in stopping]:
        raise UserError([line for message in messages for line in message.split("\n")])
    if not counts.get("ok", 0) + counts.get("incomplete", 0):
        raise UserError([item.problem for item in findings] + ["no slide can be used"])


def small_style_sets(findings: Sequence[Finding], size: int) -> list[str]:
    """A warning about slides with fewer patches than a style set, in which some would appear twice."""
    few = [item.slide for item in findings if item.patches is not None and 0 < item.patches < size]
    if not few:
        return []
    return [
        f"{listed('slide', few)}: fewer patches than a style set has images ({size}), which some then show twice; lower"
        " patches.size or patches.min_tissue, or the style's `images` and synthesis.style_images"
    ]


def missing_classes(slides: Sequence[Slide], findings: Sequence[Finding], options: CheckOptions) -> list[str]:
    """Warnings about classes that no annotated slide has, or none that the sheet assigns to annotated or test; or, in
    random splits, only those of one patient."""
    found: dict[str, set[str]] = {}
    patients: dict[str, set[str]] = {}
    for slide, item in zip(slides, findings, strict=True):
        if item.annotation_format:
            found.setdefault(slide.split, set()).update(item.annotated_classes.split())
            for name in item.annotated_classes.split():
                patients.setdefault(name, set()).add(slide.patient)
    warnings = []
    for name in [item.name for item in options.classes]:
        if options.random_splits and len(patients.get(name, set())) == 1:
            warnings.append(
                f"only the patient {min(patients[name])} has the class {name!r}, so it can be learned or tested, but"
                " not both; annotate it on another one"
            )
        if found and not any(name in names for names in found.values()):
            warnings.append(
                f"no annotated slide has the class {name!r}, so it can be neither learned nor scored; check its"
                " `annotations` and `mask_values`"
            )
            continue
        for role, purpose in (("annotated", "learned"), ("test", "scored")):
            if name not in found.get(role, {name}):
                warnings.append(
                    f"no annotated slide of the split {role} has the class {name!r}, so it cannot be {purpose}"
                )
    return warnings


def find_copies(slides: Sequence[Slide], findings: Sequence[Finding]) -> None:
    """Add an error to each slide whose file is a copy of an earlier one's (rows of one file the sheet refuses).

    Fingerprints cover the ends of files only, so files of one fingerprint are compared byte by byte.
    """
    first: dict[str, Slide] = {}
    for slide, finding in zip(slides, findings, strict=True):
        original = first.setdefault(finding.fingerprint or slide.slide, slide)
        if original.path != slide.path and filecmp.cmp(original.path, slide.path, shallow=False):
            problem = (
                f"{named(slide)}: is a copy of {original.path} (slide {original.slide!r}), so the same tissue could be"
                " trained on and tested; keep one of the two rows"
            )
            finding.status, finding.problem = "error", "\n".join(filter(None, [finding.problem, problem]))


def check_slide(options: PatchesOptions, slide: Slide) -> Finding:
    """Check one slide."""
    finding = Finding(slide.slide, slide.patient)
    try:
        if slide.path.is_file():
            finding.fingerprint = file_fingerprint(slide.path)
        with open_slide(slide, max_megapixels=options.patches.max_megapixels) as opened:
            describe(opened, finding)
            probe(opened, finding)
            check_readable(options, opened, finding)
    except (UnreadableSlide, OSError) as error:
        finding.status, finding.problem = "quarantined", str(error)
    except UserError as error:
        finding.status, finding.problem = "error", str(error)
    return finding


def describe(opened: OpenedSlide, finding: Finding) -> None:
    """Fill in what the open slide says of itself."""
    finding.reader = opened.reader
    finding.width, finding.height = opened.dimensions
    finding.levels = len(opened.level_dimensions)
    finding.mpp, finding.mpp_source = opened.mpp, opened.mpp_source
    finding.objective = opened.objective


def probe(opened: OpenedSlide, finding: Finding) -> None:
    """Read nine small regions of each level, corners, edges and centre, so that broken tiles and ends are found.

    Raises:
        UnreadableSlide: none of a level's can be read.
    """
    problems = []
    for (width, height), downsample in zip(opened.level_dimensions, opened.level_downsamples, strict=True):
        errors = []
        for y in (0, (height - PROBE) // 2, height - PROBE):
            for x in (0, (width - PROBE) // 2, width - PROBE):
                corner = round(max(0, x) * downsample), round(max(0, y) * downsample)
                try:
                    opened.read_region(*corner, min(PROBE, width), min(PROBE, height), downsample)
                except UnreadableSlide as error:
                    errors.append(error)
        if len(errors) == 9:
            raise errors[0]
        problems += [str(error) for error in errors]
    if problems:
        finding.status, finding.problem = "incomplete", "\n".join(problems)


def check_readable(options: PatchesOptions, opened: OpenedSlide, finding: Finding) -> None:
    """Fill in what is wrong with the resolution, the annotation and the tissue of a slide that can be read."""
    slide, patches, downsample = opened.slide, options.patches, 1.0
    annotation: Annotation | None = None
    problems, notes = [], [f"{named(slide)}: {note}" for note in opened.notes]
    try:
        _, downsample = patch_level(opened, patches)
        across = min(opened.dimensions) / downsample
        if across < patches.size - 0.5:
            problems.append(
                f"{named(slide)}: is {across:.0f} px across at the resolution of the patches, less than one of"
                f" {patches.size} px; set a smaller patches.size, or a finer patches.mpp"
            )
        brought = coords_file(slide.slide, patches)
        if brought is not None:
            read_coords(brought, opened.dimensions, patches.size * downsample)
    except UserError as error:
        problems += error.messages
    if slide.annotation is not None:
        try:
            annotation = describe_annotation(options, opened, downsample, finding)
            notes += [f"{slide.annotation}: {note}" for note in annotation.notes]
        except UserError as error:
            problems += error.messages
    try:
        tissue = tissue_mask(opened, patches.tissue, tissue_file(slide.slide, patches))
        finding.tissue_fraction = tissue.share
        if not problems:
            opened.downsample = downsample
            corners, _ = places(opened, patches, tissue)
            finding.patches = len(corners)
            finding.classes = areas_of(options, opened, annotation, corners)
    except UnreadableSlide:
        raise
    except UserError as error:
        problems += error.messages
    if problems:
        finding.status, finding.problem = "error", "\n".join(problems)
    elif not tissue.mask.any() and patches.coords is None:
        assert patches.tissue is not None
        key = "max_saturation" if patches.tissue.saturation == "otsu" else "saturation"
        remedy = f"lower patches.tissue.{key}" if patches.tissue.masks is None else "correct its mask, which is empty"
        finding.status = "no tissue"
        finding.problem = f"{named(slide)}: no tissue is found on it; {remedy}, or take it out of the sheet"
    else:
        finding.problem = "\n".join([finding.problem, *notes] if finding.problem else notes)


def describe_annotation(
    options: PatchesOptions, opened: OpenedSlide, downsample: float, finding: Finding
) -> Annotation:
    """Read the annotation of a slide, and fill in what it shows at the resolution of the patches."""
    slide, classes = opened.slide, options.classes
    assert slide.annotation is not None
    annotation = read_annotation(
        slide.annotation,
        classes,
        options.annotations,
        opened.dimensions,
        slide.path.name,
        opened.bounds,
        downsample,
        options.patches.max_megapixels,
    )
    finding.annotation_format = annotation.format
    finding.annotated_area_px = annotation.area
    finding.annotated_area_mm2 = None if opened.mpp is None else annotation.area * (opened.mpp / 1000) ** 2
    finding.annotated_classes = " ".join(classes[label].name for label in sorted(annotation.present))
    return annotation


def areas_of(
    options: PatchesOptions, opened: OpenedSlide, annotation: Annotation | None, corners: np.ndarray
) -> dict[str, ClassArea]:
    """Annotated area and patches of each class.

    Args:
        options: classes; size of patches.
        opened: the slide, with the downsample of its patches.
        annotation: None where the slide has none.
        corners: (N, 2) level-0 x, y of the patches' upper left corners.
    """
    if annotation is None:
        return {}
    downsample = max(opened.downsample, max(opened.dimensions) / PICTURE)
    width, height = (max(1, round(side / downsample)) for side in opened.dimensions)
    labels = annotation.rasterise(0, 0, width, height, downsample)
    low = np.floor(corners / downsample).astype(int).clip(0, (width, height))
    high = (
        np.ceil((corners + options.patches.size * opened.downsample) / downsample).astype(int).clip(0, (width, height))
    )
    areas = {}
    for label, item in enumerate(options.classes):
        here = labels == label
        total = cv2.integral(here.astype(np.uint8))
        inside = total[high[:, 1], high[:, 0]] - total[low[:, 1], high[:, 0]]
        inside = inside - total[high[:, 1], low[:, 0]] + total[low[:, 1], low[:, 0]]
        areas[item.name] = ClassArea(float(here.sum()) * downsample**2, int((inside > 0).sum()))
    return areas
