"""The workflow where not all is beside it: other folders, other workflows, other environments."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch torchvision diffusers accelerate segmentation_models_pytorch timm torch_fidelity matplotlib cv2 openslide"
)
HEAVY += " tifffile imagecodecs h5py scipy skimage shapely simplejpeg safetensors PIL defusedxml shtab"
WITHOUT = f"sys.modules.update(dict.fromkeys('{HEAVY}'.split()))"  # importing them fails

MODULE = f"""
configfile: "mine.yaml"

module stedm:
    snakefile: "{ROOT}/Snakefile"
    config: config

use rule * from stedm
"""


@pytest.fixture
def call(study):
    """Snakemake as it is called in the study's folder, without --snakefile and --configfile; returns what it prints."""

    def run(*arguments):
        call = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        done = subprocess.run(call, cwd=study.path, capture_output=True, text=True, timeout=300)
        return done.stdout + done.stderr

    return run


def test_it_is_planned_with_snakemake_pandas_and_pydantic_alone(study):
    """As where jobs bring their own environment (`--sdm`), and Snakemake runs in a small one."""
    assert study.jobs(prelude=WITHOUT)["train_generator"] == 1


def test_another_workflow_takes_it_as_a_module(study, call):
    (study.path / "study.yaml").rename(study.path / "mine.yaml")
    (study.path / "Snakefile").write_text(MODULE)
    printed = call("--dry-run", "--quiet", "rules")
    assert "train_generator" in printed and "write_report" in printed, printed
    printed = call("--containerize")  # which reads the environments of all rules, as `--sdm conda` does
    assert "accelerate==" in printed or "envs/stedm.yaml" in printed, printed


def test_its_default_study_is_found_from_another_folder(study, call):
    printed = call("--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "rules")
    assert "render_phantom" in printed, printed


def test_the_configuration_of_the_folder_comes_first(study, call):
    (study.path / "study.yaml").rename(study.path / "config.yaml")
    printed = call("--snakefile", str(ROOT / "Snakefile"), "--dry-run", "--quiet", "rules")
    assert "train_generator" in printed and "render_phantom" not in printed, printed


def test_the_catalog_reads_our_entry():
    entry = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert entry["mandatory-flags"]["flags"] == "--profile profiles/local" and (ROOT / "profiles/local").is_dir()
    assert entry["software-stack-deployment"]["conda"]
