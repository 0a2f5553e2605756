"""What a newcomer types."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def make(*arguments, **options):
    return subprocess.run([str(MAKE), *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def test_without_a_python_that_is_new_enough_it_says_so(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # as a Python before 3.11 answers
    (tools / "python3").chmod(0o755)
    arguments = ["-C", ROOT, "environment", f"VENV={tmp_path / 'venv'}"]
    answer = make(*arguments, env=os.environ | {"PATH": str(tools), "MAKEFLAGS": ""})
    assert answer.returncode != 0
    assert "Python 3.11 or newer (with venv) is needed and was not found on the PATH" in answer.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("flags", [["-C", ROOT], ["-f", ROOT / "Makefile"]])
def test_it_works_from_another_folder(tmp_path, flags):
    answer = make(*flags, "help", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "make demo " in answer.stdout


@pytest.mark.parametrize("place", [".", "my check'out"])
@pytest.mark.parametrize("by_folder", [True, False])
def test_it_works_in_a_folder_with_an_odd_name(tmp_path, place, by_folder):
    checkout = tmp_path / "my study" / place
    checkout.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", checkout)
    answer = make(*(["-C", checkout] if by_folder else ["-f", checkout / "Makefile"]), "help", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "make demo " in answer.stdout


def test_cleaning_removes_no_other_folder_for_a_space_in_a_name(tmp_path):
    (tmp_path / "my").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    answer = make("-C", tmp_path, "clean", "VENV=my env")
    assert answer.returncode != 0
    assert "VENV must be one folder without spaces" in answer.stderr
    assert (tmp_path / "my").is_dir()
