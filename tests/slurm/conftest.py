"""A small study on the test bed: Snakemake is called as on a cluster, and jobs are looked up as a user would."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import testbed
import yaml

ROOT = Path(__file__).parents[2]
ROLES = {"A1": "annotated", "A2": "annotated", "U1": "unannotated", "U2": "unannotated", "T1": "test", "T2": "test"}
STUDY = """
study: small
slides: {sheet: slides.csv, root: drawn}
phantoms: {size: 512}
classes:
  - {name: stroma, color: "#e8a0bf", annotations: [Stroma]}
  - {name: tumour, color: "#6a3d9a", annotations: [Tumor]}
annotations: {fill: stroma}
patches: {size: 32, mpp: 1.0}
splits: {source: sheet, annotated_patients: [2]}
first_stage: {kind: none, unshuffle: 2}
generators:
  styled:
    preset: demo
    unet: {channels: [16, 32], attention: [false, true]}
    training: {steps: 4, batch_size: 4}
    sampling: {steps: 2}
synthesis: {images: 8, shards: 2}
segmentation:
  encoder: tu-resnet18
  encoder_depth: 3
  decoder_channels: [16, 8, 8]
  training: {steps: 3, batch_size: 4}
arms:
  real: {label: real only}
  styled: {label: real + styled synthetic, sources: [styled]}
evaluation: {reference_arm: real, bootstrap: 200}
"""
COSTS: list[tuple[str, str]] = []


class ClusterStudy:
    """A working folder with a study that runs on the test bed."""

    def __init__(self, path: Path):
        self.path = path
        self.results = path / "results/small"
        self.said = path / "snakemake.log"
        self.config: dict[str, Any] = yaml.safe_load(STUDY)
        self.profile: dict[str, Any] = yaml.safe_load((ROOT / "slurm/config.yaml").read_text(encoding="utf-8"))
        self.profile |= {"slurm-init-seconds-before-status-checks": 5, "max-status-checks-per-second": 1}  # quicker
        with (path / "slides.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["slide", "patient", "path", "annotation", "group", "split"])
            writer.writerows([name, name, f"{name}.tiff", f"{name}.geojson", "solid", ROLES[name]] for name in ROLES)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Snakemake, as a user would start it."""
        (self.path / "slurm").mkdir(exist_ok=True)
        for name, content in {"slurm/config.yaml": self.profile, "study.yaml": self.config}.items():
            (self.path / name).write_text(yaml.safe_dump(content), encoding="utf-8")
        study = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "study.yaml"]
        with self.said.open("w") as said:
            return subprocess.Popen(
                ["snakemake", "--profile", "slurm", *study, *arguments],
                cwd=self.path,
                env=os.environ
                | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"},
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def train(self, names: dict[str, int]) -> subprocess.Popen[bytes]:
        """Start the trainings of further generators of so many steps, which save every second."""
        styled = self.config["generators"]["styled"]
        for name, steps in names.items():
            training = styled["training"] | {"steps": steps, "checkpoint_minutes": 1 / 60}
            self.config["generators"][name] = styled | {"training": training}
        return self.start("--", *(f"results/small/generators/{name}/n2-r0" for name in names))

    def finish(self, driver: subprocess.Popen[bytes]) -> None:
        """Wait for Snakemake to end well."""
        assert driver.wait(timeout=1800) == 0, self.said.read_text(encoding="utf-8")

    def log(self, generator: str) -> str:
        path = self.results / f"logs/train_generator/{generator}-n2-r0.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.fixture(scope="session")
def cluster() -> Iterator[ModuleType]:
    """The test bed, running."""
    if (reason := testbed.why_not()) is not None:
        pytest.skip(reason)
    testbed.stop()  # what a killed run of the tests left
    testbed.start()
    yield testbed
    testbed.stop()


@pytest.fixture(scope="session")
def study(cluster: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> ClusterStudy:
    return ClusterStudy(tmp_path_factory.mktemp("cluster"))


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Any:
    """Note what a failure cost; the notes are printed after the tests."""
    return lambda failure, text: COSTS.append((failure, text))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if COSTS:
        terminalreporter.section("what failures cost")
        for failure, text in COSTS:
            terminalreporter.write_line(f"{failure}: {text}")
