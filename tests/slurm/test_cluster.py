"""The study on a real SLURM: it finishes, and what goes wrong on a cluster costs no more than it must.

Each test goes on in the folder that the one before left. All take some eight minutes on two cores.
"""

import re
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import testbed

pytestmark = pytest.mark.slurm

QUERY = ["sacct", "-n", "-P", "-X", "-o", "JobID,Partition,State,AllocTRES,Timelimit,Comment"]
STEPS = {"cancelled": 1500, "overtime": 2500, "unpowered": 1500}


def jobs(pattern: str) -> list[dict[str, str]]:
    """All jobs whose comment (rule and wildcards) matches, as accounted by SLURM, in the order they were submitted."""
    lines = subprocess.run(QUERY, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [
        dict(zip(("id", "partition", "state", "tres", "limit", "comment"), line.split("|"), strict=True))
        for line in lines
    ]
    return [row for row in rows if re.search(pattern, row["comment"])]


def wait_for_checkpoint(study, generator):
    """Wait until a training of this process has saved its state; the id of its job."""
    testbed.wait_until(lambda: "step" in study.log(generator), f"the training of {generator}", 240)
    time.sleep(3)
    return next(job["id"] for job in jobs(f"train_generator.*{generator}") if job["state"] == "RUNNING")


def resumed_at(study, generator, steps):
    """The step at which the last attempt of a training went on."""
    went_on = re.findall(rf"going on from step (\d+) of {steps} ", study.log(generator))
    assert went_on, study.log(generator)
    return int(went_on[-1])


def whole_history(study, generator, steps):
    """Whether the history of a training, over all its attempts, has no gap and nothing twice."""
    history = pd.read_csv(study.results / f"generators/{generator}/n2-r0/history.csv")
    return history["step"].is_monotonic_increasing and history["step"].is_unique and history["step"].iloc[-1] == steps


def environment(job: str) -> dict[str, str]:
    """What a command of ours finds in its environment in a job."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            pairs = (process / "environ").read_text().split("\0")
            command = (process / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        if f"SLURM_JOB_ID={job}" in pairs and "generator\0train" in command:
            return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    raise AssertionError(f"no training in job {job}")


def test_the_study_finishes_though_accounting_and_controller_are_away_for_half_a_minute(study, cost):
    started = time.monotonic()
    driver = study.start()
    testbed.wait_until(lambda: jobs("train_generator"), "the training of the generator", 300)
    testbed.stop_daemon("slurmdbd")
    testbed.stop_daemon("slurmctld")
    time.sleep(30)
    testbed.start_slurmdbd()
    testbed.start_slurmctld()
    study.finish(driver)
    assert (study.results / "tables/arms.csv").exists()
    done = jobs("")
    assert {job["state"] for job in done} == {"COMPLETED"}
    cost(
        "slurmdbd and slurmctld down for 30 s",
        f"no job lost of {len(done)}; study of {time.monotonic() - started:.0f} s",
    )


def test_jobs_ran_where_the_profile_sends_them(study):
    on_gpu = jobs("train_|embed_|draw_|score_|judge_")
    assert len(on_gpu) >= 8
    assert {job["partition"] for job in on_gpu} == {"gpu"}
    assert all("gres/gpu=1" in job["tres"] for job in on_gpu)
    assert {job["limit"] for job in jobs("train_generator")} == {"1-00:00:00"}
    others = jobs("check|slides")
    assert {job["partition"] for job in others} == {"cpu"}
    assert not any("gpu" in job["tres"] for job in others)


def test_small_slides_share_a_job_and_what_takes_seconds_has_none(study):
    assert len(jobs("extract_patches|slides")) == 1
    assert not jobs("demo_slide|make_split|plan_images|compare|figure")


def test_cancelled_overtime_and_unpowered_trainings_go_on_where_they_were(study, cost):
    limit = "train_generator:runtime=2 if wildcards.generator == 'overtime' and attempt == 1 else 60"
    driver = study.train(STEPS, "--set-resources", limit)
    cancelled = wait_for_checkpoint(study, "cancelled")
    assert environment(cancelled)["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    subprocess.run(["scancel", cancelled], check=True)
    unpowered = wait_for_checkpoint(study, "unpowered")
    node = testbed.output("squeue", "-h", "-j", unpowered, "-o", "%N")
    testbed.kill_node(node)
    study.finish(driver)
    testbed.start_node(node)
    for generator, state in {"cancelled": "CANCELLED", "overtime": "FAILED|TIMEOUT", "unpowered": "NODE_FAIL"}.items():
        first, *others = jobs(f"train_generator.*{generator}")
        assert re.match(state, first["state"]), first
        assert [job["state"] for job in others] == ["COMPLETED"]
        step = resumed_at(study, generator, STEPS[generator])
        assert 0 < step < STEPS[generator]
        assert whole_history(study, generator, STEPS[generator])
        cost(generator, f"{first['state']}; went on from step {step} of {STEPS[generator]}")


def test_a_rerun_beside_an_orphan_job_never_writes_with_it(study, cost):
    steps = 1500
    driver = study.train({"orphan": steps})
    wait_for_checkpoint(study, "orphan")
    driver.kill()
    driver.wait()
    assert [one["state"] for one in jobs("orphan")] == ["RUNNING"]
    study.finish(study.start("--unlock"))
    study.finish(study.train({"orphan": steps}))
    assert whole_history(study, "orphan", steps)
