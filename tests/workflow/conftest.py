"""A study of seven slides whose stages are played by a stub, so that what reruns when is seen in a second."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = {"A": "annotated", "U": "unannotated", "T": "test", "V": "validation"}
SLIDES = {name: ROLES[name[0]] for name in ("A1", "A2", "U1", "U2", "T1", "T2", "V1")}

STUB = """\
#!/bin/sh
# Plays every stedm command: makes the outputs that it is asked for.
command="$1 $2"
while [ $# -gt 0 ]; do
    case "$1" in
        --out | --overview)
            case "$2" in
                *report.html) touch "$2" "${2%report.html}summary.md" ;;
                *.png) touch "$2" "${2%.png}.pdf" ;;
                *.*) touch "$2" ;;
                *) mkdir -p "$2" ;;
            esac
            [ "$command" = "statistics arms" ] && (cd "$2" && touch scores.csv patients.csv arms.csv comparisons.csv) ;;
    esac
    shift
done
exit 0
"""


class StudyFolder:
    """A working folder with a study, and Snakemake called in it as a user would, with the rules of a checkout."""

    def __init__(self, path: Path, checkout: Path = ROOT):
        self.path = path
        self.checkout = checkout

    def write(self, config: dict[str, Any], rows: list[dict[str, str]] | None = None) -> None:
        (self.path / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        if rows is not None:
            with (self.path / "slides.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)

    @property
    def config(self) -> dict[str, Any]:
        return yaml.safe_load((self.path / "study.yaml").read_text(encoding="utf-8"))

    @property
    def rows(self) -> list[dict[str, str]]:
        with (self.path / "slides.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def change(self, key: str, value: Any) -> None:
        """Set a value of the configuration; `key` is its path with dots."""
        config = self.config
        *path, last = key.split(".")
        section = config
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value
        self.write(config)

    def snakemake(
        self, *arguments: str, prelude: str = "pass", profile: str = "local"
    ) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(self.path), str(Path(sys.executable).parent), os.environ["PATH"]])
        call = f"import sys; {prelude}; from snakemake.cli import main; sys.exit(main())"
        where = [
            "--profile",
            str(self.checkout / "profiles" / profile),
            "--snakefile",
            str(self.checkout / "Snakefile"),
        ]
        return subprocess.run(
            [sys.executable, "-c", call, *where, *arguments],
            cwd=self.path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def run(self) -> None:
        done = self.snakemake("--configfile", "study.yaml", "--quiet", "all")
        assert done.returncode == 0, done.stdout + done.stderr

    def jobs(self, *targets: str, configfile: str | None = "study.yaml", prelude: str = "pass") -> Counter[str]:
        """How many jobs of each rule would run now."""
        chosen = ["--configfile", configfile] if configfile else []
        plan = self.snakemake(*chosen, "--dry-run", "--quiet", "rules", "--", *targets, prelude=prelude)
        assert plan.returncode == 0, plan.stdout + plan.stderr
        table = plan.stdout.rpartition("Job stats:")[2].partition("\n\n")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
        return Counter({name: count for name, count in jobs.items() if name not in ("total", "all")})

    def edges(self) -> set[tuple[str, str]]:
        """Pairs of rules of which the second depends on the first."""
        graph = self.snakemake("--configfile", "study.yaml", "--rulegraph", "dot").stdout
        names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
        return {(names[one], names[other]) for one, other in re.findall(r"(\d+) -> (\d+)", graph)}


def tiny_config() -> dict[str, Any]:
    return {
        "study": "tiny",
        "slides": {"sheet": "slides.csv"},
        "classes": [
            {"name": "rest", "color": "#ffffff", "mask_values": [0]},
            {"name": "tumour", "color": "#000000", "mask_values": [1]},
        ],
        "patches": {"size": 64, "level": 0},
        "splits": {"source": "sheet", "annotated_patients": [2]},
        "generators": {"styled": {"preset": "demo", "training": {"steps": 1}}},
        "synthesis": {"images": 4, "shards": 2},
        "segmentation": {"training": {"steps": 1}},
        "arms": {"real": {"label": "real"}, "styled": {"label": "styled", "sources": ["styled"]}},
        "evaluation": {"reference_arm": "real", "evaluator_arm": "real"},
    }


def tiny_rows() -> list[dict[str, str]]:
    return [
        {
            "slide": name,
            "patient": name,
            "path": f"{name}.png",
            "annotation": f"{name}-mask.png",
            "mpp": "",
            "split": role,
        }
        for name, role in SLIDES.items()
    ]


@pytest.fixture(scope="session")
def make_folder() -> type[StudyFolder]:
    return StudyFolder


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """The study before anything ran."""
    return make_study(tmp_path)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    study = make_study(tmp_path_factory.mktemp("finished"))
    study.run()
    return study


@pytest.fixture
def finished(finished_study: StudyFolder, tmp_path: Path) -> StudyFolder:
    """The study after all of it ran."""
    shutil.copytree(finished_study.path, tmp_path, dirs_exist_ok=True)
    return StudyFolder(tmp_path)


def make_study(path: Path) -> StudyFolder:
    study = StudyFolder(path)
    for name in SLIDES:
        (path / f"{name}.png").write_bytes(b"")
        (path / f"{name}-mask.png").write_bytes(b"")
    (path / "stedm").write_text(STUB)
    (path / "stedm").chmod(0o755)
    study.write(tiny_config(), tiny_rows())
    return study
