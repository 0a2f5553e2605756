"""`stedm init` as a function: look, decide, write, and say why."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stedm.config.standard import STANDARD
from stedm.cost import this_machine
from stedm.datasets.found import relative_path
from stedm.errors import UserError, listed
from stedm.init.classes import propose_classes
from stedm.init.files import Paired, pair_files
from stedm.init.patients import find_patients
from stedm.init.proposal import (
    Proposal,
    patients_with,
    propose_encoder,
    propose_patches,
    propose_splits,
    propose_trainings,
)
from stedm.init.survey import Annotated, Facts, open_all, read_all
from stedm.init.write import write_study
from stedm.sheet import Slide
from stedm.slides.open import COARSEST, FINEST, is_microscopes

SHOWN = 5
"""Files of a kind that are named one by one."""


def init_study(
    folder: Path,
    slides: Path,
    annotations: Path | None = None,
    *,
    patient_from: str | None = None,
    mpp: float | None = None,
    hours: float = 12.0,
    encoder_weights: str = "imagenet",
) -> list[str]:
    """Write `slides.csv`, `study.yaml` and its schema into a folder.

    Args:
        folder: of the study, named as the study.
        slides: folder of the slides.
        annotations: folder of annotation files; None: they lie beside the slides.
        patient_from: a regular expression whose first group is the patient, or `table.csv:column`.
        mpp: µm per pixel of slides that do not say it.
        hours: of all trainings together, on this machine.
        encoder_weights: "imagenet", "none", or a folder in timm's format.

    Returns:
        What was found, what was chosen and why, and what to do next, in lines.

    Raises:
        UserError: there is nothing to make a study of, or a file of it was changed by hand.
    """
    if mpp is not None and not is_microscopes(mpp):
        raise UserError(f"--mpp: {mpp:g} µm per pixel no microscope has ({FINEST:g} to {COARSEST:g}); is it nm or mm?")
    if hours <= 0:
        raise UserError(f"--hours: {hours:g} hours are no time; give more than 0")
    paired = pair_files(slides, annotations)
    patients, rule = find_patients(paired.slides, slides, patient_from)
    facts, broken = open_all(paired.slides)
    left_out = leave_out(facts, broken, paired.slides, mpp)
    if not facts:
        raise UserError([*left_out, f"{slides}: no slide can be used"])
    annotated = read_all(paired.slides, paired.annotations, scaled(facts, mpp))
    known = {name: patients[name] for name in facts}
    unread = [*left_out, *(f"{name}: {text}" for name, text in annotated.broken.items()), *paired.unpaired]
    if not paired.annotations:
        raise UserError([*first(unread), f"no annotation was found in {annotations or slides}; give --annotations DIR"])
    try:
        classes = propose_classes(annotated, known)
    except UserError as error:
        raise UserError([*first(unread), *error.messages]) from None
    with_shapes = patients_with(classes.slides, known)

    proposal = Proposal({"study": re.sub(r"\W+", "_", folder.resolve().name, flags=re.ASCII)})
    study, comments = proposal.study, proposal.comments
    study["study"] = study["study"] if study["study"][:1].isalpha() else f"study_{study['study']}"
    comments["study"] = "name of the folder under results/"
    study["slides"] = {"sheet": str(folder / "slides.csv")}
    comments["slides"] = f"{len(facts)} slides of {len(set(known.values()))} patients"
    study["classes"] = classes.classes
    comments |= {f"classes.{number}": text for number, text in enumerate(classes.comments)}
    if classes.annotations:
        study["annotations"] = classes.annotations
        comments["annotations"] = "how annotation files are read"
    machine = this_machine()
    proposal.reasons += classes.reasons
    propose_patches(list(scaled(facts, mpp).values()), classes.diameter, machine, proposal)
    propose_splits(len(with_shapes), len(set(known.values()) - with_shapes), proposal)
    propose_encoder(encoder_weights, machine, proposal)
    propose_trainings(machine, hours, proposal)

    unscaled = all(fact.mpp is None for fact in facts.values())
    if unscaled and mpp is not None:
        study["slides"]["mpp"] = mpp
    rows = [
        Slide(
            name,
            patients[name],
            relative_path(paired.slides[name], folder),
            relative_path(paired.annotations[name], folder) if name in classes.slides else None,
            mpp=mpp if fact.mpp is None and not unscaled else None,
        )
        for name, fact in sorted(facts.items())
    ]
    write_study(folder, rows, proposal)
    return [
        *found_lines(slides, facts, annotated, paired, left_out, rule, known, classes.slides),
        *class_report(classes.classes, classes.comments),
        "Chosen:",
        *(f"  - {reason}" for reason in proposal.reasons),
        f"  - arms: the standard comparisons ({', '.join(STANDARD['arms'])})",
        f"Written: {folder / 'slides.csv'}, {folder / 'study.yaml'}",
        "Next:",
        f"  stedm config check {folder / 'study.yaml'}",
        f"  snakemake patches --profile profiles/local --configfile {folder / 'study.yaml'}"
        f"   # look at results/{study['study']}/overviews",
        f"  snakemake --profile profiles/local --configfile {folder / 'study.yaml'}",
    ]


def scaled(facts: Mapping[str, Facts], mpp: float | None) -> dict[str, Facts]:
    """The facts with the scale of those that do not say it."""
    return {
        name: Facts(fact.width, fact.height, fact.mpp or mpp, fact.reader, fact.image) for name, fact in facts.items()
    }


def leave_out(
    facts: dict[str, Facts], broken: Mapping[str, str], slides: Mapping[str, Path], mpp: float | None
) -> list[str]:
    """Take slides out that no study can use, with the reasons: broken ones, and those without a scale among others."""
    reasons = [*broken.values()]
    missing = [name for name, fact in facts.items() if fact.mpp is None]
    if missing and mpp is None and len(missing) < len(facts):
        for name in missing:
            del facts[name]
        reasons.append(f"{listed('slide', missing)}: no resolution, unlike the others; give it with --mpp")
    return reasons


def found_lines(
    folder: Path,
    facts: Mapping[str, Facts],
    annotated: Annotated,
    paired: Paired,
    left_out: list[str],
    rule: str,
    patients: Mapping[str, str],
    labelled: set[str],
) -> list[str]:
    """What was found, and what was not taken."""
    readers = Counter(fact.reader for fact in facts.values())
    sizes = sorted((fact.width, fact.height) for fact in facts.values())
    low, high = (" × ".join(f"{side:,}" for side in size) for size in (sizes[0], sizes[-1]))
    scales = Counter("no scale" if fact.mpp is None else f"{fact.mpp:.3g} µm/px" for fact in facts.values())
    formats = ", ".join(f"{count} × {format}" for format, count in annotated.formats.items()) or "none"
    unused = set(annotated.broken) | labelled
    empty = [str(path) for name, path in paired.annotations.items() if name in facts and name not in unused]
    kinds = ", ".join(f"{count} × {reader}" for reader, count in readers.items())
    lines = [
        f"Slides: {len(facts)} in {folder} ({kinds}); {low if low == high else f'{low} to {high}'} px;"
        f" {', '.join(f'{count} × {scale}' for scale, count in scales.most_common(4))}",
        f"Patients: {len(set(patients.values()))}, {rule}",
        f"Annotations: {formats}; {len(labelled)} of {len(facts)} slides have shapes or pixels of the classes below",
    ]
    broken = [f"{name}: {text}" for name, text in annotated.broken.items()]
    for title, items in (
        ("Left out", left_out),
        ("Annotations that cannot be read", broken),
        ("Annotations without any of the classes, which count as none", empty),
        ("Not paired", paired.unpaired),
    ):
        if items:
            lines.append(f"{title}:")
            lines += [f"  - {item}" for item in first(items)]
    return lines


def first(items: Sequence[str]) -> list[str]:
    """The first of them, and how many more there are."""
    return [*items[:SHOWN], *([f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else [])]


def class_report(classes: list[dict[str, Any]], comments: list[str]) -> list[str]:
    """The classes as a small table."""
    lines = ["Classes:"]
    for label, (item, comment) in enumerate(zip(classes, comments, strict=True)):
        of = ", ".join([*map(repr, item.get("annotations", [])), *(f"value {v}" for v in item.get("mask_values", []))])
        lines.append(f"  {label} {item['name']}{f' ({of})' if of else ''}: {comment}")
    return lines
