"""Splits: the role of each patient (annotated, unannotated, validation or test).

The patient is the unit: all slides of a patient have the same role, except unusable slides (unreadable, or without
tissue), which are excluded. A split is a table with one row per slide: slide, patient, group, role, labelled.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stedm.config import SplitOptions
from stedm.errors import UserError
from stedm.files import written_whole
from stedm.sheet import ROLES, slides_by_name
from stedm.tables import CHECK, SPLIT

if TYPE_CHECKING:
    from stedm.store import PatchFile

EXCLUDED = "excluded"
USABLE = ("ok", "incomplete")
log = logging.getLogger(__name__)


def make_split(
    options: SplitOptions, sheet: Path, patches: Path, *, out: Path, check: Path | None = None
) -> pd.DataFrame:
    """Assign every patient a role and write the table.

    Annotated sets are nested: with the same seed and repeat, a smaller set is a subset of a larger one. Over the
    repeats of random splits, the numbers of times that two patients are tested differ by at most one.

    Args:
        options: source of the roles, number of annotated patients, repeat (from 0), scored classes, seed; strict: a
            slide that would be excluded is an error.
        sheet: sheet that `write_sheet` wrote.
        patches: folder of patch files, one per slide of the sheet.
        out: the table's file.
        check: table of `stedm check`; slides that are not usable according to it are excluded.

    Returns:
        The table, one row per slide in the sheet's order.

    Raises:
        UserError: more patients are requested than exist, a role that needs annotations has none, or a scored class is
            missing in the test patients, or in all who could be annotated; with `strict`, all unusable slides.
    """
    slides = read_slides(sheet, patches, check, options.strict)
    patients = by_patient(slides[slides["patches"] > 0])
    lost = sorted(set(slides["patient"]) - set(patients.index))
    if options.splits.source == "sheet":
        damaged = slides[slides["patches"] == 0]
        damaged_roles = dict(zip(damaged["patient"], damaged["split"], strict=True))
        roles = roles_of_sheet(patients, options, sheet, damaged_roles)
    else:
        roles = random_roles(patients, options, lost)
    table = slides.assign(role=[roles.get(patient, EXCLUDED) for patient in slides["patient"]])
    table.loc[table["patches"] == 0, "role"] = EXCLUDED
    check_classes(table, options.scored_classes, options.splits.source)
    table = table[[*SPLIT.columns, "fingerprint"]]
    with written_whole(out) as temporary:
        SPLIT.write(table, temporary)
    return table


def read_slides(sheet: Path, patches: Path, check: Path | None, strict: bool) -> pd.DataFrame:
    """Per slide: slide, patient, group, split (the sheet's role), patches (their number), labelled (bool), classes
    (names of those in its patches), and the fingerprint of the patch file, so that the split changes with any patch and
    everything made from it is made again.

    An unusable slide has no patches.
    """
    from stedm.store import patch_file

    checked: dict[str, dict[str, str]] = {}
    if check is not None:
        rows_checked = CHECK.read(check).to_dict("records")
        checked = {row["slide"]: {key: row[key] for key in ("status", "problem")} for row in rows_checked}
    rows = []
    missing = []
    unusable = {}
    for slide in slides_by_name(sheet):
        try:
            file = patch_file(patches, slide)
        except FileNotFoundError:
            missing.append(f"{patches / slide}.h5: there is no such file; run `stedm patches extract` for {slide!r}")
            continue
        found = {key: str(file.attributes.get(key, "")) for key in ("status", "problem")}
        if found["status"] in USABLE:  # so far: areas between its patches may be broken
            found = checked.get(slide, found)
        usable = found["status"] in USABLE and len(file) > 0
        if not usable:
            unusable[slide] = found["status"] + (f" ({found['problem']})" if found["problem"] else "")
        rows.append(
            {
                "slide": slide,
                **{name: str(file.attributes[name]) for name in ("patient", "group", "split")},
                "patches": len(file) if usable else 0,
                "labelled": usable and bool(file.annotated.any()),
                "classes": classes_of(file) if usable else frozenset(),
                "fingerprint": file.fingerprint,
            }
        )
    if missing:
        raise UserError(missing)
    if strict and unusable:
        raise UserError([f"slide {slide}: {why}; set strict: false to leave it out" for slide, why in unusable.items()])
    for slide, why in unusable.items():
        log.warning("Slide %s is left out of the split: %s", slide, why)
    return pd.DataFrame(rows)


def classes_of(file: "PatchFile") -> frozenset[str]:
    """Names of the classes that a file's patches have pixels of."""
    names = np.asarray(file.attributes["class_names"], object)
    return frozenset(map(str, names[file.class_fractions.any(0)]))


def check_classes(table: pd.DataFrame, scored_classes: Sequence[str], source: str) -> None:
    """Every class that is scored must be on a test patient, and on one who is annotated or could be.

    Args:
        table: a row per slide, with `role`, `split` (the sheet's) and `classes`.
        scored_classes: their names.
        source: of the roles, "sheet" or "random".

    Raises:
        UserError: all classes that some role lacks.
    """
    own = source == "sheet"
    could_be = table["split"] == "annotated" if own else table["role"].isin(["annotated", "unannotated"])
    tested, annotated, possible = (
        frozenset().union(*table.loc[rows, "classes"])
        for rows in (table["role"] == "test", table["role"] == "annotated", could_be)
    )
    problems = []
    for name in scored_classes:
        if name not in tested:
            other = "set the split of a patient who has it to test" if own else "raise splits.test_patients"
            problems.append(
                f"no test patient has patches with the scored class {name!r}; annotate it in one of them, {other}, or"
                " remove it from evaluation.classes"
            )
        if name not in possible:
            other = "set the split of a patient who has it to annotated" if own else "lower splits.test_patients"
            problems.append(
                f"no patient who could be annotated has patches with the scored class {name!r}, so it cannot be"
                f" learned; annotate it in one of them, {other}, or remove it from evaluation.classes"
            )
        elif name not in annotated:
            log.warning(
                "no annotated patient of this split has patches with the scored class %r, so it cannot be learned;"
                " raise splits.annotated_patients, or give the patients groups, by which they are stratified",
                name,
            )
    if problems:
        raise UserError(problems)


def by_patient(slides: pd.DataFrame) -> pd.DataFrame:
    """Groups (of all slides, sorted), split and labelled (true if any slide is) by patient, sorted by name."""
    return slides.groupby("patient", sort=True).agg(
        groups=("group", lambda groups: tuple(sorted(set(groups)))),
        split=("split", "first"),
        labelled=("labelled", "any"),
    )


def roles_of_sheet(
    patients: pd.DataFrame, options: SplitOptions, sheet: Path, damaged: Mapping[str, str]
) -> dict[str, str]:
    """Roles from the sheet, of whose annotated patients only `options.annotated_patients` stay annotated.

    Patients who lost their annotations together with unusable slides (`damaged`, with their roles) do not stop the
    study, unless no test patient is left.
    """
    problems = [
        f"{sheet}, patient {patient!r}: the column split is empty; enter one of {', '.join(ROLES)}, or set"
        " splits.source to random"
        for patient in patients.index[patients["split"] == ""]
    ]
    roles = {str(patient): str(role) for patient, role in patients["split"].items()}
    for patient in patients.index[~patients["labelled"] & patients["split"].isin(["annotated", "test", "validation"])]:
        if patient not in damaged:
            problems.append(
                f"{sheet}, patient {patient!r}: has the split {roles[patient]}, but none of its patches has an"
                " annotated pixel; add annotations for its slides, or set its split to unannotated"
            )
        elif roles[patient] == "annotated":
            log.warning("Patient %s counts as unannotated, because its annotated slides were left out", patient)
            roles[patient] = "unannotated"
    if problems:
        raise UserError(problems)
    pool = patients[[roles[patient] == "annotated" for patient in patients.index]]
    check_number(options.annotated_patients, 0, len(pool), str(sheet), sorted(damaged))
    if not any(roles[patient] == "test" for patient in patients.index[patients["labelled"]]):
        lost = sorted(patient for patient, role in damaged.items() if role == "test")
        left_out = f" (left out for lack of usable slides: {', '.join(lost)})" if lost else ""
        raise UserError(
            f"{sheet}: no patient with usable annotated slides has the split test{left_out}; assign it to some of them"
        )
    order = stratified_order(pool["groups"], options.seed, 1, options.repeat)
    return roles | dict.fromkeys(order[options.annotated_patients :], "unannotated")


def random_roles(patients: pd.DataFrame, options: SplitOptions, lost: Sequence[str]) -> dict[str, str]:
    """Distribute the labelled patients over test, validation and annotated; all others are unannotated.

    The test set is the `repeat`-th block of one seeded order, taken cyclically, so that all are tested equally often.
    """
    labelled = patients.loc[patients["labelled"], "groups"]
    test, validation = options.splits.test_patients or 0, options.splits.validation_patients
    kept, annotated, repeat = test + validation, options.annotated_patients, options.repeat
    check_number(annotated, kept, len(labelled), "the sheet", lost)
    order = stratified_order(labelled, options.seed, 0)
    tested = [order[index % len(order)] for index in range(repeat * test, (repeat + 1) * test)]
    rest = stratified_order(labelled.drop(tested), options.seed, 1, repeat)
    return (
        dict.fromkeys(patients.index, "unannotated")
        | dict.fromkeys(tested, "test")
        | dict.fromkeys(rest[:validation], "validation")
        | dict.fromkeys(rest[validation : validation + annotated], "annotated")
    )


def check_number(asked: int, kept: int, available: int, where: str, lost: Sequence[str]) -> None:
    """Are there patients with annotations for training, and those kept for test and validation?"""
    if asked + kept > available:
        also = f" and {kept} kept for test and validation" if kept else ""
        left_out = f" (left out for lack of usable slides: {', '.join(lost)})" if lost else ""
        raise UserError(
            f"splits.annotated_patients: {asked} requested{also}, but {where} has only {available} with"
            f" annotations{left_out}; request fewer, or annotate more"
        )


def stratified_order(groups: pd.Series, *seed: int) -> list[str]:
    """Patients in a seeded order in which every section contains each stratum in about its overall share.

    Args:
        groups: stratum by patient: the groups that the patient's slides are of.
        seed: numbers that determine the order.
    """
    rng = np.random.default_rng([part % 2**32 for part in seed])
    keyed = []
    for _, members in groups.sort_index().groupby(groups, sort=True):
        tie = rng.random()
        shuffled = rng.permutation(members.index.to_numpy(dtype=object))
        keyed += [((place + 0.5) / len(shuffled), tie, str(patient)) for place, patient in enumerate(shuffled)]
    return [patient for _, _, patient in sorted(keyed)]


def read_split(path: Path) -> pd.DataFrame:
    """A split's table: slide, patient, group, role as text, labelled as bool.

    Raises:
        UserError: the file is not a split.
    """
    table = SPLIT.read(path)
    wrong = table.loc[~table["role"].isin([*ROLES, EXCLUDED])]
    if len(wrong):
        line, role = wrong.index[0] + 2, wrong["role"].iloc[0]
        raise UserError(f"{path}, line {line}: role {role!r} is not one of {', '.join([*ROLES, EXCLUDED])}")
    return table.assign(labelled=table["labelled"].astype(bool))


def slides_of(split: pd.DataFrame, *roles: str) -> list[str]:
    """Names of the slides with one of these roles, in the table's order."""
    return [str(slide) for slide in split.loc[split["role"].isin(roles), "slide"]]
