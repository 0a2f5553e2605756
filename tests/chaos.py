"""Kill a small study again and again at random moments, run it on, and compare it with one that nobody disturbed.

    python tests/chaos.py --kills 100

Each kill (SIGKILL) is aimed at a stage: when one of its jobs runs, a random time passes, up to what that job usually
takes, and then the whole process group dies, or the driver alone, which leaves its jobs as orphans beside those of the
next run, or the job alone. Kills are counted by what they hit. A finished study is compared, file by file and byte by
byte, and made anew until there were enough kills. The exit status is 0 if all were identical.
"""

import argparse
import contextlib
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
POLL = 0.1
SLIDES = {"A": "annotated", "U": "unannotated", "T": "test"}
STUDY = """
study: chaos
slides: {sheet: slides.csv, root: drawn}
phantoms: {size: 512}
classes:
  - {name: stroma, color: "#e8a0bf", annotations: [Stroma]}
  - {name: tumour, color: "#6a3d9a", annotations: [Tumor]}
annotations: {fill: stroma}
patches: {size: 32, mpp: 1.0}
splits: {source: sheet, annotated_patients: [1]}
first_stage:
  kind: trained
  channels: [8, 8]
  training: {steps: 12, batch_size: 2, checkpoint_minutes: 0.001}
generators:
  styled:
    preset: demo
    unet: {channels: [16, 32], attention: [false, true]}
    style: {canonical: false}
    training: {steps: 12, batch_size: 2, checkpoint_minutes: 0.001}
    sampling: {steps: 2}
synthesis: {images: 4, shards: 1, style_images: 2}
segmentation:
  encoder: tu-test_resnet
  encoder_depth: 3
  decoder_channels: [16, 8, 8]
  training: {steps: 12, batch_size: 2, checkpoint_minutes: 0.001, workers: 1}
arms:
  real: {label: real only}
  styled: {label: real + styled synthetic, sources: [styled]}
evaluation: {reference_arm: real, evaluator_arm: real, bootstrap: 50}
"""
STAGES = (
    *("phantom render", "check", "patches extract", "splits make", "first-stage train", "first-stage encode"),
    *("generator train", "style-bank embed", "synthesis plan", "synthesis generate", "synthesis manifest"),
    *("segmentation train", "evaluation score", "evaluation images", "statistics arms", "statistics images", "figures"),
)
"""Commands that kills are aimed at, in the order of a study."""
VICTIMS = ("group", "group", "driver", "job")
VARYING = ("logs", "benchmarks", "work")
"""Folders of the results that say how the study was made, and when."""
SNAKEMAKES_OWN = ".snakemake_timestamp"
"""An empty file with which Snakemake dates a folder once its job has ended, so not where it died before that."""


class Study:
    """A folder with a study in it, and at most one driver of ours at work on it."""

    def __init__(self, path: Path, cores: int):
        self.path, self.cores = path, cores
        self.orphans: list[psutil.Process] = []
        (path / "drawn").mkdir(parents=True)
        (path / "study.yaml").write_text(STUDY, encoding="utf-8")
        rows = [f"{name},{name},{name}.tiff,{name}.geojson,solid,{role}" for name, role in SLIDES.items()]
        sheet = "\n".join(["slide,patient,path,annotation,group,split", *rows]) + "\n"
        (path / "slides.csv").write_text(sheet, encoding="utf-8")

    def start(self) -> psutil.Popen:
        """The driver, in a process group of its own; the lock of one that was killed is removed as --unlock does."""
        shutil.rmtree(self.path / ".snakemake/locks", ignore_errors=True)
        self.orphans = [one for one in self.orphans if one.is_running()]
        options = ["--profile", ROOT / "profiles/local", "--snakefile", ROOT / "Snakefile", "--cores", self.cores]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with (self.path / "driver.log").open("w") as log:
            return psutil.Popen(
                [sys.executable, "-m", "snakemake", *map(str, options), "--configfile", "study.yaml"],
                cwd=self.path,
                env=os.environ | {"PATH": path},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Run until the study is complete. Only beside orphans, which hold locks, may a run fail."""
        while self.start().wait() != 0:
            if not self.orphans:
                sys.exit((self.path / "driver.log").read_text(encoding="utf-8") + "a run that nobody disturbed failed")
        psutil.wait_procs(self.orphans)

    def disturb(self, stage: str, usual: float, rng: random.Random) -> list[str] | None:
        """Run, and kill when a job of a stage, or of a later one where that is done, has run for a while; returns what
        was hit, None if no job came."""
        driver = self.start()
        left = STAGES[STAGES.index(stage) :]
        while not (aimed := [job for job in jobs(driver) if stage_of(job) in left]):
            if driver.poll() is not None:
                return None
            time.sleep(POLL)
        time.sleep(rng.uniform(0, usual))
        running, children = jobs(driver), driver.children(recursive=True)
        hit = [name for job in running if (name := stage_of(job))]
        match rng.choice(VICTIMS):
            case "job" if running:
                victim = next((job for job in aimed if job in running), running[0])
                hit = [name for name in [stage_of(victim)] if name]
                kill(victim)
                driver.wait()
            case "driver":
                kill(driver)
                self.orphans += children
            case _:
                with contextlib.suppress(ProcessLookupError):  # it has just finished
                    os.killpg(driver.pid, signal.SIGKILL)
                for child in children:
                    kill(child)
                psutil.wait_procs(children)
        driver.wait()
        return hit or ["between jobs"]

    def digests(self) -> dict[str, str]:
        return digests(self.path / "results/chaos")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a study's results that says nothing of how it was made; of histories without their
    seconds, and of seals without the digests of histories."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in VARYING and name.name != SNAKEMAKES_OWN:
            match path.name:
                case "history.csv":
                    content = without_seconds(path)
                case "SHA256SUMS":
                    content = b"".join(line for line in path.open("rb") if b"history.csv" not in line)
                case _:
                    content = path.read_bytes()
            found[str(name)] = hashlib.sha256(content).hexdigest()
    return found


def jobs(driver: psutil.Popen) -> list[psutil.Process]:
    """The `stedm` commands that a driver has running."""
    try:
        return [child for child in driver.children(recursive=True) if stage_of(child)]
    except psutil.NoSuchProcess:
        return []


def stage_of(process: psutil.Process) -> str | None:
    """The stage whose command a process is, None if it is another's."""
    try:
        _, script, *words = [*process.cmdline(), "", ""]
    except psutil.Error:
        return None
    command = " ".join(words[:2])
    return next((stage for stage in STAGES if Path(script).name == "stedm" and f"{command} ".startswith(stage)), None)


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def without_seconds(path: Path) -> bytes:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]
    return repr(rows).encode()


def undisturbed(study: Study) -> dict[str, float]:
    """Run a study, and say for how long the commands of each stage ran."""
    seen: dict[tuple[str, int], tuple[float, float]] = {}
    driver = study.start()
    while driver.poll() is None:
        now = time.monotonic()
        for job in jobs(driver):
            if stage := stage_of(job):
                first, _ = seen.get((stage, job.pid), (now, now))
                seen[stage, job.pid] = first, now
        time.sleep(POLL)
    if driver.returncode:
        sys.exit((study.path / "driver.log").read_text(encoding="utf-8"))
    return {name: max(last - first for (stage, _), (first, last) in seen.items() if stage == name) for name, _ in seen}


def chaos(folder: Path, kills: int, seed: int, cores: int) -> bool:
    """Kill, run on and compare; prints what happened, and returns whether all studies were identical."""
    rng = random.Random(seed)
    start = time.monotonic()
    calm = Study(folder / "calm", cores)
    usual = undisturbed(calm)
    expected = calm.digests()
    print(f"undisturbed: {time.monotonic() - start:.0f} s, {len(expected)} files", flush=True)
    # As many kills to each stage as to any other; several in one study, in its order.
    plan = [STAGES[index % len(STAGES)] for index in range(kills)]
    rng.shuffle(plan)
    hits: Counter[str] = Counter()
    done, different = 0, []
    for number in range(kills):
        study = Study(folder / f"disturbed-{number}", cores)
        for stage in STAGES:
            quota = min(plan.count(stage), rng.randint(1, 3))
            while quota and (hit := study.disturb(stage, usual.get(stage, POLL), rng)):
                hits.update(hit)
                plan.remove(stage)
                quota, done = quota - 1, done + 1
                print(f"kill {done}: {', '.join(hit)}", flush=True)
        study.finish()
        found = study.digests()
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        different += wrong
        print(f"study {number + 1} finished, {len(wrong)} files differ {wrong}", flush=True)
        if not plan:
            break
        shutil.rmtree(study.path)
    print(f"\n{done} kills in {time.monotonic() - start:.0f} s hit")
    for stage, count in sorted(hits.items(), key=lambda item: -item[1]):
        print(f"{count:6} {stage}")
    print(f"identical: {str(not different).lower()}", flush=True)
    return not different


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="empty folder to work in, kept (without: a temporary one)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        return 0 if chaos(args.folder or Path(temporary), args.kills, args.seed, args.cores) else 1


if __name__ == "__main__":
    sys.exit(main())
