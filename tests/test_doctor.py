"""`stedm doctor` says of everything that a study needs whether it is in order, or what to do."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stedm import cli, doctor


def test_what_is_in_order_has_no_remedy(tmp_path):
    found = {item.what: item for item in doctor.examine(tmp_path)}
    assert list(found) == [
        *("Python", "packages", "OpenSlide", "GPU", "machine"),
        *("Snakemake", "SLURM", "folder", "disk"),
    ]
    for name in ("Python", "packages", "OpenSlide", "Snakemake", "folder"):
        assert not found[name].remedy, found[name]
        assert str(found[name]).startswith("OK    ")
    assert list(tmp_path.iterdir()) == []


def test_the_exit_status_tells_scripts(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "examine", lambda folder: iter([doctor.Finding("disk", "full", "free some")]))
    assert cli.main(["doctor", "--folder", str(tmp_path)]) == 2
    answer = capsys.readouterr()
    assert answer.out == "WRONG disk: full\n      free some\n"
    assert answer.err == "1 of 1 are not in order: disk\n"
    monkeypatch.setattr(doctor, "examine", lambda folder: iter([doctor.Finding("disk", "empty")]))
    assert cli.main(["doctor"]) == 0


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 2))
    assert doctor.python().remedy.startswith("install Python 3.11")


def test_packages_that_are_missing_or_old_are_named(monkeypatch):
    wanted = ["numpy>=99", "no-such-package>=1", "pandas", "also-missing; extra == 'dev'"]
    monkeypatch.setattr(doctor, "requires", lambda name: wanted)
    found = doctor.packages()
    assert "numpy" in found.found
    assert "no-such-package (missing)" in found.found
    assert "also-missing" not in found.found
    assert "make environment" in found.remedy


def test_an_openslide_that_cannot_be_loaded_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert "openslide-bin" in doctor.openslide().remedy


def test_a_gpu_that_torch_does_not_find_is_named(monkeypatch):
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), __version__="2.11")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert not doctor.gpu().remedy
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "driver" in doctor.gpu().remedy


@pytest.mark.parametrize(
    ("script", "found", "remedy"),
    [
        ("echo 'cpu*\ngpu'", "partitions cpu, gpu", ""),
        ("echo 'cannot contact slurm controller' >&2; exit 1", "cannot contact", "controller"),
    ],
)
def test_a_cluster_answers_or_not(monkeypatch, tmp_path, script, found, remedy):
    for name in ("sbatch", "sinfo"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    answer = doctor.slurm()
    assert found in answer.found
    assert remedy in answer.remedy
    assert bool(answer.remedy) == bool(remedy)


def test_a_folder_that_cannot_be_written_to_and_a_full_disk_are_named(monkeypatch, tmp_path):
    assert "fix its permissions" in doctor.permission(Path("/proc")).remedy
    assert "cannot be written to" in doctor.permission(tmp_path / "nowhere").found
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e9))
    assert doctor.disk(tmp_path).found == "3 GB free"
    assert doctor.disk(tmp_path).remedy
