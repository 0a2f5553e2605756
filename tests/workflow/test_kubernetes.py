"""The profile for Kubernetes, with a stand-in for `kubectl` that starts each pod's command here, as process 1 where it
may."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from stedm.config import GeneratorOptions, validate
from stedm.requests import memory_mb, training_minutes

pytest.importorskip("snakemake_executor_plugin_cluster_generic")

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "profiles/kubernetes"
GENERATOR = "results/tiny/generators/styled/n2-r0"
KUBECTL = f"""#!{sys.executable}
import os, subprocess, sys, yaml
from pathlib import Path
folder = Path(__file__).parent / "pods"
folder.mkdir(exist_ok=True)
if sys.argv[1] == "create":
    manifest = sys.stdin.read()
    command = yaml.safe_load(manifest)["spec"]["template"]["spec"]["containers"][0]["command"]
    name = f"stedm-{{len(list(folder.iterdir()))}}"
    (folder / name).write_text(manifest)
    end = f'"$@" && echo Complete > {{folder / name}}.end || echo Failed > {{folder / name}}.end'
    subprocess.Popen(["sh", "-c", end, "sh", *command], start_new_session=True, stdout=2)
    print(f"job.batch/{{name}}")
elif sys.argv[1] == "get":
    pod = folder / Path(sys.argv[2]).name
    end = Path(f"{{pod}}.end")
    if pod.exists():
        print(pod.name, end.read_text() if end.exists() else "")
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The folder of the stand-in, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "kubectl").write_text(KUBECTL, encoding="utf-8")
    (folder / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def snakemake(study, *arguments):
    """Snakemake with the profile, from a folder that has the checkout's profiles."""
    (study.path / "profiles").symlink_to(ROOT / "profiles")
    path = os.pathsep.join([str(study.path), str(Path(sys.executable).parent), os.environ["PATH"]])
    call = [sys.executable, "-m", "snakemake", "--profile", str(SCRIPTS), "--snakefile", str(ROOT / "Snakefile")]
    return subprocess.run(
        [*call, "--configfile", "study.yaml", *arguments],
        cwd=study.path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_study_is_planned_as_on_one_machine(study):
    plan = snakemake(study, "--dry-run", "--quiet", "rules")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert "train_generator " in plan.stdout
    assert sum(study.jobs().values()) == int(plan.stdout.partition("\ntotal")[2].split()[0]) - 1


def test_a_job_becomes_a_pod_with_what_its_study_and_site_ask_for(finished, cluster):
    finished.change("generators.styled", {"preset": "improved", "training": {"workers": 2}})
    finished.change("first_stage", {"kind": "none", "unshuffle": 4})
    options = GeneratorOptions.of(validate(finished.config, "study.yaml"), generator="styled")
    run = snakemake(finished, "--config", "gpu_tflops=20", "--quiet", "rules", "--", GENERATOR)
    assert run.returncode == 0, run.stdout + run.stderr
    (pod,) = [path for path in (cluster / "pods").iterdir() if not path.suffix]
    spec = yaml.safe_load(pod.read_text(encoding="utf-8"))["spec"]
    limits = spec["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "4", "memory": f"{memory_mb(options, 64, 4)}M", "nvidia.com/gpu": "1"}
    assert spec["activeDeadlineSeconds"] == 60 * training_minutes(options, 64, 20)
    assert training_minutes(options, 64, 40) < training_minutes(options, 64, 20) < 1_440
    assert Path(f"{pod}.end").read_text() == "Complete\n"


def test_slides_share_a_pod(study, cluster):
    run = snakemake(
        study, "--quiet", "rules", "--", *(f"results/tiny/patches/{name}.h5" for name in ("A1", "T1", "U1"))
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len([path for path in (cluster / "pods").iterdir() if not path.suffix]) == 1


def test_what_became_of_a_pod(cluster):
    def status(name):
        return subprocess.run([SCRIPTS / "status", name], capture_output=True, text=True, check=True).stdout.strip()

    (cluster / "pods").mkdir()
    assert status("job.batch/gone") == "failed"
    (cluster / "pods/one").touch()
    assert status("job.batch/one") == "running"
    for word, expected in (("SuccessCriteriaMet Complete", "success"), ("FailureTarget Failed", "failed")):
        (cluster / "pods/one.end").write_text(word)
        assert status("job.batch/one") == expected


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="a process 1 of its own needs root")
def test_a_pod_that_is_told_to_end_waits_for_the_training_to_save(tmp_path):
    (tmp_path / "save").write_text(
        f"#!/bin/sh\ntrap 'sleep 2; touch {tmp_path}/saved; exit 75' TERM\nsleep 60 & wait\n"
    )
    (tmp_path / "job").write_text(f"#!/bin/sh\nsh {tmp_path}/save && exit 0 || exit 1\n")
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", SCRIPTS / "run", tmp_path / "job"]
    pod = subprocess.Popen(command)
    children = Path(f"/proc/{pod.pid}/task/{pod.pid}/children")
    for _ in range(100):
        if children.read_text():
            break
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(int(children.read_text()), signal.SIGTERM)
    assert pod.wait(timeout=20) != 0
    assert (tmp_path / "saved").exists()
