"""Files and names are strangers': nothing of them is run, and nothing leaves its place."""

import ast
import json
from pathlib import Path

import pandas as pd
import pytest

import stedm
from stedm.config import Slides
from stedm.errors import UserError
from stedm.models import GENERATOR_CODE
from stedm.sheet import read_sheet

SOURCES = sorted(Path(stedm.__file__).parent.rglob("*.py"))
RUN_WHAT_THEY_READ = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EXPAND_ENTITIES = {"xml.etree.ElementTree", "xml.etree.cElementTree", "xml.dom", "xml.sax", "lxml"}
"""Parsers of XML; their types may be named, and `defusedxml` parses."""
XML_TYPES = {"Element", "ParseError"}


def imports(tree):
    """(module, names or None) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", {alias.name for alias in node.names}


def calls(tree):
    """(dotted name, keywords as source) of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


def faults(tree):
    """What of a source could run what a file says."""
    found = []
    for module, names in imports(tree):
        if module.split(".")[0] in RUN_WHAT_THEY_READ:
            found.append(module)
        if any(module.startswith(parser) for parser in EXPAND_ENTITIES) and not (names and names <= XML_TYPES):
            found.append(module)
    for name, words in calls(tree):
        if name == "torch.load" and words.get("weights_only") != "True":
            found.append(name)
        if name in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "tempfile.mktemp"):
            found.append(name)
        if words.get("allow_pickle", "False") != "False" or "pickle" in name or words.get("shell", "False") != "False":
            found.append(name)
        if name.endswith((".chmod", ".umask")):
            found.append(name)
    return found


def test_no_source_runs_what_it_reads():
    found = {path.name: wrong for path in SOURCES if (wrong := faults(ast.parse(path.read_text(encoding="utf-8"))))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import xml.etree.ElementTree as ET",
        "from lxml import etree",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "path.chmod(0o777)",
        "yaml.load(text)",
    ],
)
def test_the_test_before_sees(source):
    assert faults(ast.parse(source))


@pytest.fixture
def read_name(tmp_path):
    """Read a sheet of one slide with a name."""
    (tmp_path / "a.png").touch()

    def read(name, column="slide"):
        row = {"slide": "a", "patient": "p", "path": "a.png"} | {column: name}
        pd.DataFrame([row]).to_csv(tmp_path / "slides.csv", index=False)
        return read_sheet(Slides(sheet=str(tmp_path / "slides.csv")))[0]

    return read


BAD_NAMES = ["../x", "/etc/x", "a/b", "a\\b", "a;rm", "$(rm)", "`rm`", "a b", "-rf", ".x", "..", "a|b", "a&b", "a\nb"]
BAD_NAMES += ["a'b", 'a"b', "{a}", "*", "~", "a\0b", "a" * 101, "ü" * 51, "\u202ea", "<b>", "a%20b", "=1+1"]


@pytest.mark.parametrize("column", ["slide", "patient"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_could_leave_their_place_or_mean_something_are_refused(read_name, name, column):
    with pytest.raises(UserError, match=f"line [23].*{column}|is not text"):
        read_name(name, column)


@pytest.mark.parametrize("name", ["a", "P-01.2_b", "01", "NA", "Müller", "患者1", "_x", "ü" * 50])
def test_names_of_any_script_are_taken_as_they_are(read_name, name):
    assert read_name(name).slide == name


def test_weights_are_safetensors_and_checkpoints_hold_tensors_alone(tiny_study):
    import tiny
    import torch

    model = tiny.train(tiny_study, tiny.options())
    names = {path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()}
    code = {name for name in names if name.endswith(".py")}
    assert code == set(GENERATOR_CODE)  # which nobody here runs (test_own_code)
    suffixes = {Path(name).suffix for name in names - code - {"SHA256SUMS"}}
    assert suffixes <= {".safetensors", ".json", ".csv", ".md", ".png"}
    (checkpoint,) = [max(work.glob("step-*.pt")) for work in (tiny_study / "work").iterdir()]
    assert torch.load(checkpoint, weights_only=True)["step"] == 3
    told = json.loads((model / "provenance.json").read_text(encoding="utf-8"))
    assert set(told["inputs"]) == {"A1", "A2", "U1", "U2"}  # slides, not patients
