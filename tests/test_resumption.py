"""Trainings that are killed at random and run again end, to the bit, as one that nobody disturbed."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys

import pytest
import tiny
import torch

from stedm import checkpoint, config, training
from stedm.errors import Interrupted

STEPS = 8
WAYS = ["kill", "kill", "stop", "stop", "half"]
INTERRUPTED = 75
STOP = """
import os, signal, sys
group = int(sys.argv[1])
assert group > 1 and group not in (os.getpgrp(), os.getsid(0))
os.killpg(group, signal.SIGTERM)
"""


def first_stage(study, workers, out):
    from stedm.first_stage import train_first_stage

    stage = config.TrainedFirstStage(
        kind="trained", channels=[8, 8], training=config.Training(steps=STEPS, batch_size=2, workers=workers)
    )
    options = config.FirstStageOptions(first_stage=stage, canonical=False, device=config.Device(), seed=0)
    train_first_stage(options, study / "split.csv", study / "patches", work=study / "work", out=out)


def generator(study, workers, out):
    chosen = tiny.options(training={"steps": STEPS, "batch_size": 2, "workers": workers})
    tiny.train(study, chosen, out)


def segmentation(study, workers, out):
    from stedm.segmentation.training import train_network

    network = config.Network(
        encoder="tu-test_resnet",
        encoder_depth=3,
        decoder_channels=[16, 8, 8],
        training=config.Training(steps=STEPS, batch_size=4, workers=workers),
    )
    options = config.SegmentationOptions(
        segmentation=network,
        arm=config.ArmData(augmentation="strong"),
        arm_name="stain",
        class_names=tiny.CLASSES,
        device=config.Device(),
        seed=0,
    )
    train_network(options, study / "split.csv", study / "patches", [], work=study / "work", out=out)


def strike(way, at_step, rng, first_step):
    """Have this process struck at a step, and checkpoints written after random steps.

    Ways: "kill" it, which leaves its workers; "stop" it and its workers, as a scheduler does; "half" kills it when half
    of the next checkpoint is written; None leaves it alone. `first_step` is set to the step that it goes on from.
    """
    rng_of, save = training.BatchRng, torch.save

    def struck(seed, step):
        if first_step.value < 0:
            first_step.value = step
        if step == at_step and way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if step == at_step and way == "stop":
            # From another process: workers that are told to stop by their parent die without complaint.
            subprocess.run([sys.executable, "-c", STOP, str(os.getpid())], check=True, start_new_session=True)
        return rng_of(seed, step)

    def saved(state, file):
        save(state, file)
        if way == "half" and state["step"] > at_step:
            file.truncate(file.tell() // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    training.BatchRng, checkpoint.torch.save = struck, saved
    checkpoint.Clock.due = lambda self: rng.random() < 0.5


def run(train, way=None, at_step=0):
    """Train in a process of its own, in a process group of its own; returns its exit status and its first step."""
    context = multiprocessing.get_context("fork")
    first_step = context.Value("i", -1)

    def child():
        os.setpgid(0, 0)
        torch.set_num_threads(1)  # the threads of the process that it was forked from are not there
        strike(way, at_step, random.Random(at_step), first_step)
        try:
            train()
        except Interrupted:
            os._exit(INTERRUPTED)

    process = context.Process(target=child)
    process.start()
    process.join()
    return process.exitcode, first_step.value


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("train", [first_stage, generator, segmentation])
def test_training_struck_at_random_ends_with_the_weights_of_one_left_alone(tiny_study, train, workers):
    assert run(lambda: train(tiny_study, 0, tiny_study / "calm")) == (0, 0)
    (tiny_study / "work").rename(tiny_study / "calm-work")
    rng = random.Random(f"{train.__name__} {workers}")
    steps = sorted(rng.sample(range(STEPS), len(WAYS)))
    for way, step in zip(rng.sample(WAYS, len(WAYS)), steps, strict=True):
        status, _ = run(lambda: train(tiny_study, workers, tiny_study / "struck"), way, step)
        assert status == (INTERRUPTED if way == "stop" else -signal.SIGKILL), (way, step)
    status, first_step = run(lambda: train(tiny_study, workers, tiny_study / "struck"))
    assert status == 0
    assert first_step > 0
    assert_same(tiny_study / "calm", tiny_study / "struck")


def assert_same(one, other):
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
