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
