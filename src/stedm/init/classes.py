"""Classes of a study from what its annotations hold."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from stedm.config import Annotations, normalised
from stedm.errors import UserError
from stedm.init.survey import INSTANCES, Annotated, Structures
from stedm.slides.annotations.shapes import UNCLASSIFIED

COLOURS = ("#e8a0bf", "#6a3d9a", "#ff7f00", "#1f78b4", "#33a02c", "#e31a1c", "#b15928", "#a6cee3", "#fdbf6f", "#666666")
REST = "rest"
"""Class of annotated area that no shape covers."""
IGNORED_VALUE = 255
"""By common usage what nobody labelled, in masks with values below 254 beside it."""
LEAST_PATIENTS = 2
"""A class must be on one patient to be learned, and on another to be tested."""

LEAST_SHARE = 0.01
"""Of the annotated area: what covers less does not decide on the size of patches."""


@dataclass
class ClassPlan:
    """Proposed classes.

    Attributes:
        classes: entries of the section `classes`, in the order of their labels.
        comments: what is known of each of them.
        annotations: the section `annotations`, as far as it differs from the defaults.
        reasons: for people.
        diameter: of the smallest class's structures but the first's: µm, or level-0 pixels where slides have no scale.
        slides: on which anything is annotated.
    """

    classes: list[dict[str, Any]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    annotations: dict[str, Any] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    diameter: float = 0.0
    slides: set[str] = field(default_factory=set)


@dataclass
class Group:
    """What becomes one class: the names or values of it, and their structures."""

    name: str
    names: list[str]
    values: list[str]
    found: Structures


def propose_classes(annotated: Annotated, patients: Mapping[str, str]) -> ClassPlan:
    """Classes, and how annotation files are read.

    Args:
        annotated: what the files hold.
        patients: by slide.

    Raises:
        UserError: nothing is annotated, or only one thing of which all is.
    """
    plan = ClassPlan()
    groups = [*of_shapes(annotated, patients, plan), *of_values(annotated, patients, plan)]
    if len(groups) < 2:
        raise UserError(
            "the annotations show "
            + (f"only one class, {groups[0].names or groups[0].values}" if groups else "no class")
            + ", and a segmentation needs two: annotate what is to be told from what, at least on two patients"
        )
    total = sum(group.found.area for group in groups) or 1.0
    colours = distinct([group.found.colour for group in groups])
    for group, colour in zip(groups, colours, strict=True):
        entry: dict[str, Any] = {"name": group.name, "color": colour}
        if group.names and group.names != [group.name]:
            entry["annotations"] = group.names
        if group.values:
            entry["mask_values"] = group.values
        plan.classes.append(entry)
        count = len({patients[slide] for slide in group.found.slides})
        share = f"{group.found.area / total:.0%}" if group.found.area >= LEAST_SHARE * total else "< 1%"
        known = f"{share} of the annotated area, {count} patient{'s' * (count > 1)}"
        plan.comments.append(known if group.found.slides else "what no shape covers")
        plan.slides |= group.found.slides
    sizes = [group.found.diameter for group in groups[1:] if group.found.area >= LEAST_SHARE * total]
    plan.diameter = min(sizes, default=0.0)
    return plan


def of_shapes(annotated: Annotated, patients: Mapping[str, str], plan: ClassPlan) -> list[Group]:
    """Classes of outlines: the largest first, or the rest of the regions."""
    defaults = Annotations()
    regions = [name for name in annotated.shapes if matches(name, defaults.regions)]
    ignored = [name for name in annotated.shapes if matches(name, defaults.ignore)]
    if UNCLASSIFIED in annotated.around:
        regions.append(UNCLASSIFIED)
        plan.annotations["regions"] = [*defaults.regions, UNCLASSIFIED]
        plan.reasons.append("shapes without a class lie around others: they count as regions, which are annotated")
    names = [name for name in annotated.shapes if name not in regions + ignored]
    if not names:
        return []
    kept, rare = apart(merged({name: annotated.shapes[name] for name in names}), patients)
    if rare:
        left = [name for group in rare for name in group.names]
        plan.annotations["ignore"] = [*plan.annotations.get("ignore", defaults.ignore), *left]
        plan.reasons.append(
            f"{', '.join(map(repr, left))}: on one patient only, and so not both learned and tested; ignored"
        )
    kept.sort(key=lambda group: -group.found.area)
    if regions or len(kept) == 1:
        kept.insert(0, Group(unique(REST, [group.name for group in kept]), [], [], Structures()))
        plan.annotations["fill"] = kept[0].name
        if regions:
            plan.reasons.append(f"what no shape covers in a region is {kept[0].name!r} (annotations.fill)")
        else:
            plan.annotations["whole_slide"] = True
            plan.reasons.append(
                f"there is one class and no region: all of an annotated slide that has no shape is {kept[0].name!r}. If"
                " you did not outline everything, draw regions around what you did (class Region), and run init again"
            )
    return kept


def of_values(annotated: Annotated, patients: Mapping[str, str], plan: ClassPlan) -> list[Group]:
    """Classes of masks: 0 first, then the other values."""
    values = annotated.values
    if not values:
        return []
    if annotated.instances:
        objects = Structures()
        for value, found in values.items():
            if value:
                objects.area += found.area
                objects.count += found.count
                objects.diameters += found.diameters
                objects.slides |= found.slides
        plan.reasons.append(f"masks have more than {INSTANCES} values, so they number single objects: one class")
        return [
            Group("background", [], ["0"], values.get(0, Structures())),
            Group("objects", [], [f"1-{2 ** (16 if max(values) < 2**16 else 32) - 1}"], objects),
        ]
    others = [value for value in values if value != IGNORED_VALUE]
    if IGNORED_VALUE in values and len(others) > 1 and max(others) < IGNORED_VALUE - 1:
        plan.reasons.append("the value 255 of masks counts as not annotated, as is usual")
        values = {value: values[value] for value in others}
    names = {0: "background"} | ({max(values): "foreground"} if len(values) == 2 else {})
    groups = [
        Group(names.get(value, f"value_{value}"), [], [str(value)], found) for value, found in sorted(values.items())
    ]
    kept, rare = apart(groups, patients)
    if rare:
        left = [value for group in rare for value in group.values]
        plan.reasons.append(f"values {', '.join(left)} of masks are on one patient: they stay unannotated")
    return kept


def apart(groups: Iterable[Group], patients: Mapping[str, str]) -> tuple[list[Group], list[Group]]:
    """Those on enough patients, and the others; all of them where none would be left."""
    groups = list(groups)
    enough = [len({patients[slide] for slide in group.found.slides}) >= LEAST_PATIENTS for group in groups]
    if not any(enough):
        return groups, []
    kept = [group for group, here in zip(groups, enough, strict=True) if here]
    return kept, [group for group in groups if group not in kept]


def merged(shapes: Mapping[str, Structures]) -> list[Group]:
    """One group for the names that differ in upper and lower case and in blanks alone."""
    groups: dict[str, Group] = {}
    for name, found in shapes.items():
        key = "annotated" if name == UNCLASSIFIED else re.sub(r"[\W_]+", "_", name.casefold()).strip("_")
        if key not in groups:
            taken = [group.name for group in groups.values()]
            groups[key] = Group(unique(key, taken), [], [], Structures())
        group = groups[key]
        group.names.append(name)
        group.found.colour = group.found.colour or found.colour
        group.found.area += found.area
        group.found.count += found.count
        group.found.diameters += found.diameters
        group.found.slides |= found.slides
    return list(groups.values())


def unique(text: str, taken: Iterable[str]) -> str:
    """The text as a class's name, which no other has."""
    name = re.sub(r"[^a-z0-9_]+", "_", text).strip("_")[:50] or "class"
    name = name if name[0].isalpha() else f"class_{name}"
    number, wanted, taken = 2, name, set(taken)
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, normalised(pattern)) for pattern in patterns)


def distinct(colours: list[str]) -> list[str]:
    """The colours where each is another's; ours in place of those that are missing, black, or there twice."""
    counts = Counter(colours)
    good = [colour if colour not in ("", "#000000") and counts[colour] == 1 else "" for colour in colours]
    ours = iter([colour for colour in COLOURS if colour not in good] * (len(colours) // 5 + 1))
    return [colour or next(ours) for colour in good]
