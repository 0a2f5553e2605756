"""Whose slides they are: by a pattern in their paths, by a table, by TCGA's barcodes, or each slide's own."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stedm.errors import UserError, listed
from stedm.init.files import stem, usable
from stedm.spreadsheet import read_csv

TCGA = r"(TCGA-\w{2}-\w{4})"
"""A patient in the names that the Cancer Genome Atlas gives to its slides."""
USUAL = ("slide", "image", "file", "filename", "name", "path")
"""Columns that tell by which character a table's values are separated."""
NUMBERED = re.compile(r"(.+?)[ _.-]+[^ _.-]+")
"""A name that may be of one of several slides of a patient: what is before the last separator."""


def find_patients(slides: Mapping[str, Path], root: Path, rule: str | None) -> tuple[dict[str, str], str]:
    """The patient of each slide, by the slide's name.

    Args:
        slides: files of slides by name.
        root: folder of the slides, from which on their paths are searched.
        rule: a regular expression whose first group (else all of it) is the patient, or `table.csv:column`; None:
            TCGA's barcodes where a name has one, else each slide is a patient.

    Returns:
        Also the reason, in words.

    Raises:
        UserError: the rule makes no sense, or says nothing of some slides.
    """
    if rule is None:
        found = by_pattern(slides, root, re.compile(TCGA))
        others = [name for name in slides if name not in found]
        reasons = [f"by the barcodes of TCGA in {len(found)} names"] if found else []
        if others:
            reasons.append(
                f"{'the other slides are each' if found else 'each slide is'} a patient, as no --patient-from says more"
            )
        prefixes = Counter(match[1] for name in others if (match := NUMBERED.fullmatch(name)))
        if prefixes and (most := prefixes.most_common(1)[0])[1] > 1:
            reasons.append(
                f"{most[1]} slides begin with {most[0]!r}: if they are one patient's, say so, or tests are unfair"
            )
        return {name: name for name in others} | found, "; ".join(reasons)
    table, _, column = rule.rpartition(":")
    if table.lower().endswith(".csv"):
        found, reason = by_table(slides, Path(table), column), f"by the column {column!r} of {table}"
    else:
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise UserError(
                f"--patient-from: {rule!r} is no regular expression ({error}), nor a table such as patients.csv:patient"
            ) from error
        found, reason = by_pattern(slides, root, pattern), f"by the pattern {rule!r} in their paths"
    if missing := [name for name in slides if name not in found]:
        raise UserError(f"--patient-from: {rule!r} names no patient for {listed('slide', missing)}; correct it")
    return found, reason


def by_pattern(slides: Mapping[str, Path], root: Path, pattern: re.Pattern[str]) -> dict[str, str]:
    found = {name: pattern.search(path.relative_to(root).as_posix()) for name, path in slides.items()}
    return {name: usable(match[1 if pattern.groups else 0] or "") for name, match in found.items() if match}


def by_table(slides: Mapping[str, Path], table: Path, column: str) -> dict[str, str]:
    """Patients by the column of a table, whose rows are found by the column that names most slides or their files."""
    header, rows = read_csv(table, (column, *USUAL))
    if column not in header.cells:
        raise UserError(f"--patient-from: {table} has no column {column!r}; it has {', '.join(header.cells)}")
    stems = {stem(path): name for name, path in slides.items()} | {name: name for name in slides}
    keys = {
        key: {stems[text]: row.cells[column] for row in rows if (text := key_of(row.cells[key])) in stems}
        for key in header.cells
        if key != column or len(header.cells) == 1
    }
    best = max(keys.values(), key=len, default={})
    return {name: usable(patient) for name, patient in best.items() if patient}


def key_of(text: str) -> str:
    """A file's name without folders and ending, as tables have it or not."""
    path = Path(text.replace("\\", "/"))
    return stem(path) if path.suffix.lower() not in ("", ".") and not path.suffix[1:].isdigit() else path.name
