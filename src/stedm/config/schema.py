"""The JSON schema of a study file, by which editors complete and check it."""

import json
from typing import Any

from stedm.config.study import Study

COMPLETED = ("Generator", "Training")
"""Sections whose required keys a preset gives where a study is silent."""


def schema() -> dict[str, Any]:
    """JSON schema of a study, with a description for each key."""
    found = Study.model_json_schema()
    for name in COMPLETED:
        found["$defs"][name].pop("required", None)
    found["required"].remove("arms")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A study of STEDM", **found}


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
