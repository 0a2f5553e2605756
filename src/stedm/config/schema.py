"""The JSON schema of a study file, by which editors complete and check it, and the reference of its keys."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from stedm.config.messages import resolve
from stedm.config.study import Study

COMPLETED = ("Generator", "Training")
"""Sections whose required keys a preset gives where a study is silent."""
HEAD = """\
# Configuration

Every key of a study file, as `stedm config schema` describes them (`--markdown` prints this page). A study file
replaces `config.yaml` entirely, and unknown keys are errors. The defaults of a generator are those of its
[preset](reference.md#configuration); where a preset is silent, those given here.
"""


class Key(NamedTuple):
    """A key of a study file.

    Attributes:
        path: with dots; `<name>` and `[]` stand for what the user names or lists.
        values: it may have.
        default: as JSON; "" where it must be given, or where it is a section.
        description: of its meaning.
    """

    path: str
    values: str
    default: str
    description: str


def schema() -> dict[str, Any]:
    """JSON schema of a study, with a description for each key."""
    found = Study.model_json_schema()
    for name in COMPLETED:
        found["$defs"][name].pop("required", None)
    found["required"].remove("arms")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A study of STEDM", **found}


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """All keys as Markdown, a table for each section of a study."""
    whole = schema()
    lines = [HEAD]
    for name, node in whole["properties"].items():
        lines += [f"## {name}", "", "| key | values | default | |", "|---|---|---|---|"]
        for key in keys(name, node, whole):
            cells = (f"`{key.path}`", key.values, key.default, key.description)
            lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def keys(path: str, node: dict[str, Any], whole: dict[str, Any]) -> Iterator[Key]:
    """A key and those in it, in the order of the file; each kind of a section that comes in several by itself."""
    options = [option for option in node.get("anyOf", node.get("oneOf", [node])) if option.get("type") != "null"]
    inner = [inside(path, option, whole) for option in options]
    sections = [(where, section) for where, section in inner if section is not None]
    default = "" if sections or "default" not in node else f"`{json.dumps(node['default'], ensure_ascii=False)}`"
    values = "" if sections else " or ".join(values_of(option, whole) for option in options)
    yield Key(path, values, default, node.get("description", ""))
    for where, section in sections:
        kind = section["properties"].get("kind", {}).get("const")
        start = where if kind is None or len(sections) == 1 else f"{where} (kind {kind})"
        for name, item in section["properties"].items():
            yield from keys(f"{start}.{name}", item, whole)


def inside(path: str, node: dict[str, Any], whole: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """The section that a value is, or whose items it has, and what stands for it in paths; None: it is no section."""
    if named := node.get("patternProperties"):
        path, node = f"{path}.<name>", next(iter(named.values()))
    elif "items" in node:
        path, node = f"{path}[]", node["items"]
    if "oneOf" in node:
        return path, merged([resolve(option, whole) for option in node["oneOf"]])
    found = resolve(node, whole)
    return path, found if "properties" in found else None


def merged(sections: list[dict[str, Any]]) -> dict[str, Any]:
    """Kinds of a section as one that has the keys of all."""
    kinds = [section["properties"]["kind"] for section in sections]
    kind = {
        "enum": [kind["const"] for kind in kinds],
        "description": "; ".join(
            f"`{kind['const']}`: {kind['description'][0].lower()}{kind['description'][1:-1]}" for kind in kinds
        )
        + ".",
    }
    every = {name: item for section in sections for name, item in section["properties"].items()}
    return {"properties": every | {"kind": kind}}


def values_of(node: dict[str, Any], whole: dict[str, Any]) -> str:
    """What a value may be, in few words."""
    node = resolve(node, whole)
    if "enum" in node or "const" in node:
        return ", ".join(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    bounds = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
    limits = ", ".join(text.format(node[key]) for key, text in bounds.items() if key in node)
    match node.get("type"):
        case "array":
            items = node.get("items") or (node.get("prefixItems") or [{}])[0]
            return f"list: {values_of(items, whole)}"
        case "object":
            return "one for each class: " + values_of(next(iter(node["patternProperties"].values())), whole)
        case "boolean":
            return "true, false"
        case "integer":
            return f"whole number {limits}".strip()
        case "number":
            return f"number {limits}".strip()
    return "text"
