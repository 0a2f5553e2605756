"""The study on a real SLURM: it finishes, and what goes wrong on a cluster costs no more than it must.

Each test goes on in the folder that the one before left. All take some eight minutes on two cores.
"""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import testbed

pytestmark = pytest.mark.slurm

# Without -S, sacct leaves out what ended before midnight; the test bed's accounts hold nothing but these tests.
QUERY = ["sacct", "-n", "-P", "-X", "-S", "now-2days", "-o", "JobID,Partition,State,AllocTRES,Timelimit,Comment"]
STEPS = {"cancelled": 500, "overtime": 1500, "unpowered": 1000}  # differ, or two trainings would be one


def jobs(pattern: str) -> list[dict[str, str]]:
    """Jobs that have ended and whose comment (rule and wildcards) matches, in the order they were submitted."""
    lines = subprocess.run(QUERY, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [
        dict(zip(("id", "partition", "state", "tres", "limit", "comment"), line.split("|"), strict=True))
        for line in lines
    ]
    return [row for row in rows if re.search(pattern, row["comment"])]


def running(pattern: str) -> list[str]:
    """Ids of the running jobs whose comment matches."""
    lines = testbed.output("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()
    return [line.split()[0] for line in lines if re.search(pattern, line)]


def wait_for_checkpoint(study, generator):
    """Wait until a training has saved its state; the id of its job."""
    testbed.wait_until(lambda: saved(study, generator), f"a checkpoint of {generator}", 600)
    (job,) = running(f"train_generator.*{generator}")
    return job


def saved(study, generator):
    """The checkpoints of a training's running job."""
    owners = tuple(f"SLURM job {job}" for job in running(f"train_generator.*{generator}"))
    locks = [lock for lock in study.results.glob("work/generator/*/lock") if lock.read_text().endswith(owners)]
    return [path for lock in locks for path in lock.parent.glob("step-*.pt")]


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
    testbed.wait_until(lambda: running("train_generator"), "the training of the generator", 900)
    testbed.stop_daemon("slurmdbd")
    testbed.stop_daemon("slurmctld")
    time.sleep(30)
    testbed.start_slurmdbd()
    testbed.start_slurmctld()
    study.finish(driver)
    assert (study.results / "tables/arms.csv").exists()
    done = jobs("")
    last = {job["comment"]: job["state"] for job in done}
    assert set(last.values()) == {"COMPLETED"}
    # A job that starts in the meantime finds no controller to confirm its allocation, fails and is submitted again.
    again = [job["comment"] for job in done if job["state"] == "FAILED"]
    assert len(done) == len(last) + len(again)
    assert len(set(again)) == len(again) <= 4  # of the GPUs
    cost(
        "slurmdbd and slurmctld down for 30 s",
        f"of {len(last)} jobs {len(again)} started twice; study of {time.monotonic() - started:.0f} s",
    )


def test_jobs_ran_where_the_profile_sends_them(study):
    on_gpu = jobs("train_|embed_|generate_|score_|evaluate_")
    assert len(on_gpu) >= 10
    assert {job["partition"] for job in on_gpu} == {"gpu"}
    assert all("gres/gpu=1" in job["tres"] for job in on_gpu)
    assert {job["limit"] for job in jobs("train_generator")} == {"01:00:00"}
    others = [job for job in jobs("") if job not in on_gpu]
    assert len(others) == 2  # the check, and all slides in one; what takes seconds ran without SLURM
    assert {job["partition"] for job in others} == {"cpu"}
    assert not any("gpu" in job["tres"] for job in others)


def test_cancelled_overtime_and_unpowered_trainings_go_on_where_they_were(study, cost):
    resources = study.profile["set-resources"]
    resources["train_generator"] = resources["train_generator"] | {
        "runtime": "2 if wildcards.generator == 'overtime' and attempt == 1 else 60",
        "gpu": "2 if wildcards.generator == 'unpowered' else 1",  # a node of its own, and two processes
    }
    driver = study.train(STEPS)
    unpowered = wait_for_checkpoint(study, "unpowered")
    assert environment(unpowered)["CUDA_VISIBLE_DEVICES"] == "0,1"
    cancelled = wait_for_checkpoint(study, "cancelled")
    assert environment(cancelled)["CUDA_VISIBLE_DEVICES"] in ("0", "1")
    subprocess.run(["scancel", cancelled], check=True)
    testbed.wait_until(lambda: cancelled not in running("") and running("cancelled"), "the retry", 600)
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
    steps = 400
    driver = study.train({"orphan": steps})
    job = wait_for_checkpoint(study, "orphan")
    (owner,) = [lock for lock in study.results.glob("work/generator/*/lock") if f"SLURM job {job}" in lock.read_text()]
    process = int(owner.read_text().split()[1])
    os.kill(process, signal.SIGSTOP)  # so that it is there when the second run comes
    driver.kill()
    driver.wait()
    assert running("orphan") == [job]
    study.finish(study.start("--unlock"))
    driver = study.train({"orphan": steps})
    refused = f"another process is training there (process {process} on {socket.gethostname()}, SLURM job {job})"
    testbed.wait_until(lambda: refused in study.log("orphan"), "the refusal of the second job", 600)
    os.kill(process, signal.SIGCONT)
    driver.wait(timeout=600)  # well, or not, where the orphan job outlasted its retries
    testbed.wait_until(lambda: not running("orphan"), "the end of the orphan job", 600)
    study.finish(study.train({"orphan": steps}))
    first, second, *_ = jobs("orphan")
    assert whole_history(study, "orphan", steps)
    cost("killed Snakemake, second run beside its job", f"job {first['state']}, the second one {second['state']}")
