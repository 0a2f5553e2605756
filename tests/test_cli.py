"""The `stedm` command: help, messages, exit status."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from stedm import __version__, cli, config
from stedm.config import Study, load
from stedm.errors import Interrupted, UserError

ROOT = Path(__file__).parents[1]
TRAINED = {"first_stage": {"kind": "trained"}}
PRETRAINED = {"first_stage": {"kind": "pretrained", "path": "vae"}}
HEAVY = {"torch", "cv2", "openslide", "matplotlib", "pandas", "diffusers", "segmentation_models_pytorch", "pydantic"}
COMMANDS = {" ".join(command.words): command for command in cli.COMMANDS}
STAGES = [name for name, command in COMMANDS.items() if command.options]


def stedm(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    try:
        status = cli.main(arguments)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    answer = capsys.readouterr()
    return status, answer.out, answer.err


def changed_demo(values) -> Study:
    """The demo with other values, without the generators that they do not fit."""
    demo = load(ROOT / "config.yaml").model_dump(mode="json")
    for generator in demo["generators"].values():
        generator["style"]["canonical"] = False
    return Study.model_validate(demo | values)


def test_help_imports_nothing_heavy():
    script = f"""import sys
from stedm import cli
try:
    cli.main(["generator", "train", "--help"])
except SystemExit:
    print(sorted({HEAVY!r} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_a_line_for_itself_and_for_each_argument(capsys, name):
    status, text, _ = stedm(capsys, *name.split(), "--help")
    assert status == 0
    for item in COMMANDS[name].arguments:
        assert item.flag in text or item.details["metavar"] in text
        assert " ".join(item.details["help"].split()[:2]) in text


def test_every_group_of_commands_is_described(capsys):
    words = [command.words for command in COMMANDS.values()]
    assert {group for group, *rest in words if rest} == {group for group, help in cli.GROUPS.items() if help}
    assert {first for first, *_ in words} == set(cli.GROUPS)
    for group, description in cli.GROUPS.items():
        if description is None:
            continue
        status, text, _ = stedm(capsys, group, "--help")
        assert status == 0
        assert description.capitalize() in text
        assert all(name in text for first, *rest in words if first == group for name in rest)


CHANGES = {
    "first-stage train": TRAINED,
    "first-stage prepare": PRETRAINED,
    "generator predict-layouts": {
        "generators": {"styled": {"preset": "demo", "unannotated_layouts": {"arm": "strong"}}}
    },
}
"""Of the demo, for the stages that it has no use for."""


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_takes_all_that_it_needs_from_a_study(monkeypatch, tmp_path, name):
    """Options are those of the rule, and paths those where the rule finds and puts them."""
    monkeypatch.chdir(tmp_path)
    Path("workflow").symlink_to(ROOT / "workflow")
    names = {"slide": "P01", "split": "n3-r0", "generator": "styled", "source": "styled"}
    names |= {"arm": "styled_strong", "seed": "0", "shard": "1"}
    command = COMMANDS[name]
    calls = []
    study = CHANGES.get(name, {})
    monkeypatch.setattr("stedm.config.load", lambda path: changed_demo(study))
    args = cli.build_parser().parse_args(
        [*name.split(), "--study", "config.yaml", *(word for one in command.names for word in (f"--{one}", names[one]))]
    )
    dataclasses.replace(command, run=lambda *given: calls.append(given))(args)
    ((options, filled),) = calls
    assert options == getattr(config, command.options).of(changed_demo(study), **names)
    for item in command.arguments:
        assert getattr(filled, item.name) not in (None, []) or not item.needed, item.flag
    paths = {path for path in vars(filled).values() if isinstance(path, Path)} - {Path("config.yaml")}
    assert {path.parts[:2] for path in paths} <= {("results", "demo")}


def test_a_study_names_what_it_lacks(capsys):
    status, _, messages = stedm(capsys, "generator", "train", "--study", "config.yaml", "--generator", "stlyed")
    assert status == 2
    assert messages.splitlines() == [
        "stedm generator train --generator: the study has no generator 'stlyed'; did you mean 'styled'?",
        "stedm generator train --split: give the split, such as n3-r0",
    ]
    status, _, messages = stedm(capsys, "patches", "extract", "--study", "config.yaml", "--slide", "P1")
    assert (status, messages.count("\n")) == (2, 1)
    assert "has no slide 'P1'; did you mean 'P" in messages


def test_without_a_study_all_that_is_needed_must_be_given(capsys):
    status, _, messages = stedm(capsys, "synthesis", "grid", "--out", "x.csv")
    assert (status, messages) == (2, "stedm synthesis grid: --plan must be given\n")


def test_predict_applies_a_network_in_all_ways_that_an_arm_can():
    (argument,) = (item for item in COMMANDS["predict"].arguments if item.flag == "--application")
    assert argument.details["choices"] == list(get_args(config.Application))


def test_version(capsys):
    assert stedm(capsys, "--version") == (0, f"stedm {__version__}\n", "")


def test_a_checked_configuration_is_summed_up(capsys):
    status, text, _ = stedm(capsys, "config", "check", "config.yaml")
    assert status == 0
    assert text.startswith("config.yaml: study demo, 29 slides of 29 patients, ")


def test_wrong_configurations_exit_with_2_and_one_message_a_line(capsys, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("study: x y\nslids: {}\n")
    status, text, messages = stedm(capsys, "config", "check", str(path))
    assert (status, text) == (2, "")
    assert f"{path}, slids: there is no such key; did you mean 'slides'?" in messages.splitlines()
    assert all(line.startswith(f"{path}, ") for line in messages.splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{", "--options, Invalid JSON"),
        ('{"phantoms": {"size": 10}}', "--options, phantoms.size: "),
        ('{"phantoms": {"sise": 10}}', "--options, phantoms.sise: there is no such key; did you mean 'size'?"),
        ('{"phantoms": {}, "phantom": {}}', "--options, phantom: there is no such key; did you mean 'phantoms'?"),
        ('{"phantoms": {}, "xyz": {}}', "--options, xyz: there is no such key; there are: phantoms"),
    ],
)
def test_wrong_options_are_answered_with_the_keys_of_the_stage(capsys, options, message):
    status, _, messages = stedm(capsys, "phantom", "render", "--options", options, "--slide", "{}")
    assert status == 2
    assert messages.startswith(message)


def test_a_row_of_the_sheet_is_checked(capsys):
    words = ["phantom", "render", "--options", '{"phantoms": {}}', "--slide"]
    status, _, messages = stedm(capsys, *words, '{"slide": "a"}')
    assert status == 2
    assert messages.splitlines() == [
        "--slide, patient: is missing; give it a value",
        "--slide, path: is missing; give it a value",
    ]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError(["a: wrong", "b: wrong"]), 2, "a: wrong\nb: wrong\n"),
        (Interrupted("work: saved"), 75, "work: saved\n"),
    ],
)
def test_errors_that_are_no_defect_have_no_traceback(capsys, monkeypatch, error, status, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("stedm.config.load", fail)
    assert stedm(capsys, "config", "check", "config.yaml") == (status, "", message)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file", "a.csv"), "a.csv: No such file; is the path right, and the file whole?"),
        (OSError("Unable to open file (truncated file)"), "Unable to open file (truncated file); is the path right"),
        (OSError(28, "No space left on device", "a.h5"), "a.h5: the disk is full (No space left on device); free some"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe; is the path right"),  # not the one that we print to
        (OSError("write failed: errno = 28, 'No space left on device'"), "the disk is full (write failed: errno = 28"),
    ],
)
def test_errors_of_the_system_have_no_traceback(capsys, monkeypatch, error, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("stedm.config.load", fail)
    status, _, said = stedm(capsys, "config", "check", "config.yaml")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith(message)


def test_a_mistyped_file_is_named(capsys, tmp_path):
    missing = str(tmp_path / "manifset.csv")
    status, _, said = stedm(capsys, "synthesis", "grid", "--plan", missing, "--out", str(tmp_path / "grid.csv"))
    assert (status, said) == (2, f"{missing}: No such file or directory; is the path right, and the file whole?\n")


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError

    monkeypatch.setattr("stedm.config.load", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["config", "check", "config.yaml"])


def test_rendering_takes_the_row_of_the_sheet(capsys, monkeypatch):
    calls = []
    monkeypatch.setattr("stedm.phantom.files.render_phantom", lambda *values: calls.append(values))
    row = {"slide": "P04", "patient": "p", "path": "x/P04.tiff", "annotation": "x/P04.geojson", "split": "unannotated"}
    given = {"phantoms": {"size": 256, "seed": 3}}
    assert stedm(capsys, "phantom", "render", "--options", json.dumps(given), "--slide", json.dumps(row))[0] == 0
    ((options, slide),) = calls
    assert options == config.PhantomOptions(phantoms=config.Phantoms(size=256, seed=3))
    assert (slide.slide, slide.path, slide.annotation) == ("P04", Path("x/P04.tiff"), Path("x/P04.geojson"))


def test_inputs_that_a_study_lacks_may_be_left_empty():
    words = "generator train --options {} --split s.csv --patches p --first-stage --latents --style-bank --work w"
    args = cli.build_parser().parse_args([*words.split(), "--out", "o"])
    assert args.first_stage is args.latents is args.style_bank is None


@pytest.mark.parametrize("printed", [10, 1_000_000])  # what fits a buffer is written at the end, more at once
def test_a_reader_that_has_seen_enough_is_no_error(printed):
    script = f"""import argparse, sys
from stedm import cli
parser = argparse.ArgumentParser()
parser.set_defaults(command=lambda args: print("x" * {printed}))
cli.build_parser = lambda: parser
input()  # until nobody reads any more
sys.exit(cli.main([]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == cli.PIPE_CLOSED
