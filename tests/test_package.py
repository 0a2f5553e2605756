"""What a user gets who installs the package or its source, and how a shell completes its commands."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import stedm
from stedm.cli.command import FILES

ROOT = Path(__file__).parents[1]


def tracked():
    """What git has, but the link `slurm`, which an archive holds as a folder."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists() and name != "slurm"]
    if not names:
        pytest.skip("no checkout: git lists no files here")
    return names


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The source distribution of what git has: names and texts."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    (checkout / "slurm").symlink_to("profiles/slurm")
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tarfile.open(checkout / "dist" / done.stdout.splitlines()[-1]) as file:
        members = [member for member in file.getmembers() if member.isfile()]
        return {member.name.partition("/")[2]: file.extractfile(member).read() for member in members}


def test_the_source_distribution_has_all_that_git_has(archive):
    missing = {name for name in tracked() if (ROOT / name).read_bytes() != archive.get(name)}
    assert not missing
    made = {name for name in archive if name.split("/")[0] not in ("slurm", "PKG-INFO", "setup.cfg")}
    assert {name for name in made - set(tracked()) if ".egg-info/" not in name} == set()
    assert archive["slurm/config.yaml"] == archive["profiles/slurm/config.yaml"]


def test_the_source_distribution_says_what_it_is(archive):
    head = archive["PKG-INFO"].decode()
    for line in ("Name: stedm", f"Version: {stedm.__version__}", "License-Expression: Apache-2.0"):
        assert line in head
    assert f"## {stedm.__version__}" in archive["CHANGELOG.md"].decode()
    assert f"version: {stedm.__version__}" in archive["CITATION.cff"].decode()


def test_type_checkers_and_stars_find_what_is_public():
    assert (Path(stedm.__file__).parent / "py.typed").is_file()
    assert stedm.__all__ == ["__version__"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_flags_and_files(tmp_path):
    shtab = pytest.importorskip("shtab", reason="shtab is not in this environment, but it is in requirements.lock")
    assert FILES.items() <= shtab.FILE.items()
    from stedm.cli import build_parser

    (tmp_path / "complete").write_text(shtab.complete(build_parser(), "bash"))
    (tmp_path / "slide.png").touch()

    def complete(*words):
        script = 'source ./complete; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_stedm; echo "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", script, "-", *words], cwd=tmp_path, capture_output=True, text=True)
        return done.stdout.split()

    assert complete("stedm", "predic") == ["predict"]
    assert complete("stedm", "predict", "--app") == ["--application"]
    assert complete("stedm", "predict", "--application", "") == ["as_is", "normalise", "adabn"]
    assert complete("stedm", "predict", "--model", "sl") == ["slide.png"]
