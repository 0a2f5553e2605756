"""What is wrong with a configuration, in the words of the one who wrote it."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError


def choices(wrong: object, names: Iterable[str]) -> str:
    """Remedy for a wrong name: the nearest right one, else all of them."""
    names = list(names)
    close = difflib.get_close_matches(str(wrong), names, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"


def messages(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """What is wrong with the values of a model, one message each."""
    return [line for item in error.errors() for line in explain(item, model.model_json_schema())]


def explain(item: Any, schema: dict[str, Any]) -> list[str]:
    """What one error of pydantic means to the one who wrote the value."""
    where = [str(part) for part in item["loc"]]
    known, section = section_at(where[:-1], schema)
    key = ".".join([*section, *where[-1:]]) or "the whole file"
    if item["type"] == "extra_forbidden":
        return [f"{key}: there is no such key; {choices(where[-1], known)}"]
    if item["type"] == "missing":
        return [f"{key}: is missing; give it a value"]
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if item["type"].endswith("_parsing"):
        message = message.partition(", unable to")[0]
    if not where:
        return message.split("\n")
    return [f"{key}: {message} (it is {json.dumps(item['input'], default=str)[:80]})"]


def section_at(where: list[str], schema: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Keys of the section at `where`, and `where` as the user wrote it, looked up in a JSON schema.

    pydantic puts the kind of a section that comes in several (`first_stage`) among the keys; the user did not.
    """
    node = schema
    written = []
    for part in where:
        kinds = node.get("discriminator", {}).get("mapping", {})
        if part in kinds:
            node = {"$ref": kinds[part]}
            continue
        written.append(part)
        node = resolve(node, schema)
        named = node.get("patternProperties", {"": None}).values()
        node = node.get("properties", {}).get(part) or next(iter(named)) or node.get("items") or node
    return sorted(resolve(node, schema).get("properties", {})), written


def resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow references and optional values of a JSON schema to the section they stand for."""
    for option in node.get("anyOf", node.get("oneOf", [])):
        if "$ref" in option:
            node = option
            break
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node
