"""What a study needs of a machine, each with a remedy where it is not there."""

import fcntl
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

PYTHON = (3, 11)
LEAST_GB = 20
"""Free space below which a study of whole slides fills the disk."""
LEAST_MEMORY_GB = 8
TIMEOUT = 20


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: it is.
        found: in words.
        remedy: what to do; "" where it is in order.
    """

    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{'WRONG' if self.remedy else 'OK   '} {self.what}: {self.found}" + (
            f"\n      {self.remedy}" if self.remedy else ""
        )


def examine(folder: Path) -> Iterator[Finding]:
    """Look at everything, with studies in this folder in mind."""
    yield python()
    yield packages()
    yield openslide()
    yield gpu()
    yield machine()
    yield snakemake()
    yield slurm()
    yield permission(folder)
    yield disk(folder)


def python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = ".".join(map(str, PYTHON))
    remedy = "" if sys.version_info >= PYTHON else f"install Python {wanted} or newer, and run `make environment`"
    return Finding("Python", found, remedy)


def packages() -> Finding:
    """The packages that stedm names, in versions that it names."""
    try:
        needed = [Requirement(text) for text in requires("stedm") or []]
    except PackageNotFoundError:
        return Finding("packages", "stedm is not installed", "run `make environment`, or pip install it")
    wrong = []
    for item in needed:
        if item.marker is not None and not item.marker.evaluate({"extra": ""}):
            continue
        try:
            if not item.specifier.contains(found := version(item.name), prereleases=True):
                wrong.append(f"{item.name} {found} (needs {item.specifier})")
        except PackageNotFoundError:
            wrong.append(f"{item.name} (missing)")
    if wrong:
        return Finding("packages", ", ".join(wrong), "run `make environment`, which installs requirements.lock")
    return Finding("packages", f"stedm {version('stedm')} and all that it needs")


def openslide() -> Finding:
    try:
        library = importlib.import_module("openslide").__library_version__
    except Exception as error:  # a missing shared library raises several types
        return Finding(
            "OpenSlide", f"cannot be loaded ({error})", "pip install openslide-bin, which brings the library"
        )
    return Finding("OpenSlide", library)


def gpu() -> Finding:
    try:
        import torch
    except Exception as error:  # a missing shared library, too
        return Finding("GPU", f"torch cannot be loaded ({error})", "run `make environment` again")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding(
            "GPU", f"{', '.join(names)}, {memory:.0f} GiB, CUDA {torch.version.cuda}, torch {torch.__version__}"
        )
    if shutil.which("nvidia-smi"):
        return Finding(
            "GPU",
            f"nvidia-smi is here, but torch {torch.__version__} finds none",
            "update NVIDIA's driver, or install the build of torch for its version of CUDA (https://pytorch.org)",
        )
    return Finding("GPU", f"none: studies train on the CPU, with preset: demo (torch {torch.__version__})")


def machine() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    remedy = "" if memory > LEAST_MEMORY_GB else f"use a machine with more than {LEAST_MEMORY_GB} GiB"
    return Finding("machine", f"{cores} cores, {memory:.0f} GiB of memory", remedy)


def snakemake() -> Finding:
    try:
        found = version("snakemake")
    except PackageNotFoundError:
        return Finding("Snakemake", "not installed", "pip install 'stedm[workflow]'; single stages run without it")
    new = tuple(int(part) for part in found.split(".")[:2]) >= (9, 8)
    return Finding("Snakemake", found, "" if new else "install version 9.8 or newer")


def slurm() -> Finding:
    """A cluster's commands, and whether its controller answers."""
    if not shutil.which("sbatch"):
        return Finding("SLURM", "none here: run studies with --profile profiles/local")
    try:
        done = subprocess.run(["sinfo", "--noheader", "--format=%P"], capture_output=True, text=True, timeout=TIMEOUT)
        said = done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("SLURM", f"sinfo does not answer ({error})", "log in to a node from which jobs are submitted")
    if done.returncode:
        return Finding("SLURM", f"sinfo fails ({said})", "ask whether its controller runs, or log in to another node")
    try:
        plugin = version("snakemake-executor-plugin-slurm")
    except PackageNotFoundError:
        return Finding("SLURM", "Snakemake's plugin is missing", "pip install snakemake-executor-plugin-slurm")
    partitions = ", ".join(sorted({line.strip("* ") for line in done.stdout.split()}))
    return Finding("SLURM", f"partitions {partitions}, plugin {plugin}: enter account and partitions in profiles/slurm")


def permission(folder: Path) -> Finding:
    """Whether files can be written, renamed and locked: trainings rely on locks."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".stedm-doctor-") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "fix its permissions, or work in another folder, on a file system that has locks"
        return Finding("folder", f"{folder.resolve()} cannot be written to or locked ({reason})", remedy)
    return Finding("folder", f"{folder.resolve()} can be written to and locked")


def disk(folder: Path) -> Finding:
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return Finding("disk", f"{folder}: {error.strerror}", "name a folder that is there")
    remedy = (
        ""
        if free > LEAST_GB
        else f"free some: studies of whole slides need {LEAST_GB} GB or more; config check estimates"
    )
    return Finding("disk", f"{free:,.0f} GB free", remedy)
