"""The schema of study files, and the reference made of it."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from stedm import cli
from stedm.config.schema import keys, reference, schema

ROOT = Path(__file__).parents[1]
STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "workflow/studies").glob("*.yaml"))]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_fits_the_schema(path):
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema())


@pytest.mark.parametrize(
    ("where", "value"),
    [(("patches", "sise"), 64), (("patches", "size"), "big"), (("generators", "styled", "style", "sampler"), "all")],
)
def test_mistakes_do_not_fit_the_schema(where, value):
    data = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    node = data
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema())


def test_every_key_has_a_description():
    whole = schema()
    found = [key for name, node in whole["properties"].items() for key in keys(name, node, whole)]
    assert len(found) > 150
    assert [key.path for key in found if not key.description] == []
    definitions = [(name, key, item) for name, one in whole["$defs"].items() for key, item in one["properties"].items()]
    assert [f"{name}.{key}" for name, key, item in definitions if not item.get("description")] == []


def test_the_page_of_keys_is_current():
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "stedm config schema --markdown > docs/configuration.md"


def test_the_command_prints_both(capsys):
    assert cli.main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()
    assert cli.main(["config", "schema", "--markdown"]) == 0
    assert capsys.readouterr().out == reference()
