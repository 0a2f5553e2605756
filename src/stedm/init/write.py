"""A proposed study as a file: a line for each key that differs from the defaults, each with its comment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stedm.config.schema import schema_text
from stedm.files import written_whole
from stedm.init.proposal import Proposal
from stedm.sheet import Slide, write_sheet

SCHEMA = "study.schema.json"
MOST_CLASS_LINES = 5


def write_study(folder: Path, slides: Sequence[Slide], proposal: Proposal) -> None:
    """Write slides.csv, study.yaml and the schema that editors check it with.

    Raises:
        UserError: one of them is there and was changed by hand.
    """
    text = study_text(proposal)
    assert yaml.safe_load(text) == proposal.study
    with written_whole(folder / "slides.csv") as temporary:
        write_sheet(temporary, list(slides))
    with written_whole(folder / SCHEMA) as temporary:
        temporary.write_text(schema_text(), encoding="utf-8")
    with written_whole(folder / "study.yaml") as temporary:
        temporary.write_text(text, encoding="utf-8")


def study_text(proposal: Proposal) -> str:
    """The study as YAML."""
    lines = [f"# yaml-language-server: $schema={SCHEMA}"]
    for key, value in proposal.study.items():
        if key == "classes":
            lines += class_lines(value, proposal.comments)
        elif isinstance(value, dict) and any(f"{key}.{inner}" in proposal.comments for inner in value):
            lines.append(f"{key}:")
            lines += [
                commented(f"  {inner}: {flow(item)}", proposal.comments.get(f"{key}.{inner}", ""))
                for inner, item in value.items()
            ]
        else:
            lines.append(commented(f"{key}: {flow(value)}", proposal.comments.get(key, "")))
    return "\n".join(lines) + "\n"


def class_lines(classes: Sequence[dict[str, Any]], comments: dict[str, str]) -> list[str]:
    """The classes in a few lines, so that a study of eighty classes is short, too."""
    each = -(-len(classes) // MOST_CLASS_LINES)
    lines = ["classes: [  # in the order of their labels 0, 1, …"]
    for start in range(0, len(classes), each):
        part = range(start, min(start + each, len(classes)))
        comment = "" if each > 1 else comments.get(f"classes.{start}", "")
        lines.append(commented("  " + ", ".join(flow(classes[number]) for number in part) + ",", comment))
    return [*lines, "]"]


def commented(line: str, comment: str) -> str:
    return f"{line}  # {comment}" if comment else line


def flow(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and value.replace("_", "a").isalnum() and yaml.safe_load(value) == value:
        return value
    if isinstance(value, float):
        return yaml.safe_dump(value).split("\n")[0]
    return json.dumps(value, ensure_ascii=False)
