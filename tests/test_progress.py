"""What a training shows while it runs, and that showing it changes nothing."""

import json
import logging
import os
import time

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from accelerate import tracking
from PIL import Image
from test_training import STEPS, Numbers, network, objective, options

from stedm import config, progress, training
from stedm.cli import main
from stedm.errors import UserError
from stedm.progress import Progress, running
from stedm.training import train


@pytest.fixture
def at_once(monkeypatch):
    """Records, lines and pictures as often as they can be."""
    for name in ("RECORD_SECONDS", "LOG_SECONDS", "FIRST_SECONDS"):
        monkeypatch.setattr(progress, name, 0)
    monkeypatch.setattr(progress, "SHARE", 1e9)


def run(work, **more):
    return train(network(), objective, Numbers(), options(), config.Device(), 1, work, **more)


def test_a_running_training_can_be_watched_and_one_that_ended_or_was_killed_cannot(tmp_path, at_once, capsys):
    work = tmp_path / "work/generator/abc"
    work.mkdir(parents=True)
    with Progress("generator styled n3-r0", "cpu", 100, 300, work) as shown:
        time.sleep(0.1)
        for step, loss in ((101, 2.0), (102, 4.0)):
            shown.update(step, loss)
        (state,) = running(tmp_path).values()
        assert (state.title, state.device, state.step, state.steps) == ("generator styled n3-r0", "cpu", 102, 300)
        assert state.loss == 3.0
        assert 0 < state.rate < 2 / 0.1
        assert state.left == pytest.approx(198 / state.rate)
        assert main(["watch", str(tmp_path), "--once"]) == 0
        line = capsys.readouterr().out
        assert line.startswith("generator styled n3-r0: step 102 of 300, loss 3, ") and "left" in line
        assert str(work) in line
        os.utime(work / progress.RECORD, (0, 0))  # of a process that was killed
        assert not running(tmp_path)
    assert not list(work.iterdir())
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert "no training is running" in capsys.readouterr().out


def test_a_training_logs_loss_rate_device_and_time_left(tmp_path, at_once, caplog):
    caplog.set_level(logging.INFO)
    run(tmp_path, title="segmentation real n2-r0 seed 1")
    lines = [record.getMessage() for record in caplog.records if "seed 1: step" in record.getMessage()]
    assert len(lines) == STEPS
    for part in (f"step {STEPS} of {STEPS}, loss ", " steps/s on cpu, 00:00 left"):
        assert part in lines[-1]


def test_pictures_are_renewed_at_checkpoints_and_change_no_bit(tmp_path, at_once):
    calm, history = run(tmp_path / "calm")
    seen = []

    def preview(model, folder):
        assert not model.training
        seen.append(model(torch.ones(2, 3)).mean().item())
        torch.rand(5)

    watched, _ = run(tmp_path / "watched", preview=preview)
    assert len(set(seen)) == STEPS - 1
    for name, value in calm.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    with Image.open(tmp_path / "watched/loss.png") as picture:
        assert picture.width > 100
    written = pd.read_csv(tmp_path / "watched/history.csv")
    np.testing.assert_allclose(written["loss"], history["loss"])


def test_pictures_take_two_percent_of_the_time_at_most(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    budget = progress.Budget()
    now = 59.0
    assert not budget.allows()  # so that short trainings have none
    now = 60.0
    assert budget.allows()
    with budget.spent():
        now += 10
    now = 70 + 499
    assert not budget.allows()
    now = 70 + 500
    assert budget.allows()


def test_samples_of_a_generator_change_no_bit_of_it(tiny_study, at_once):
    steps = {"training": {"steps": 4, "batch_size": 4, "checkpoint_minutes": 1e-9}}
    watched = tiny.train(tiny_study, tiny.options(**steps), "watched", "work-1")
    (samples,) = tiny_study.glob("work-1/*/samples.png")
    pixels = np.asarray(Image.open(samples))
    side = pixels.shape[1] // 4
    assert pixels[:side, :side].min() == 255  # nothing is in the corner
    assert pixels[side:, side:].std() > 5
    calm = tiny.train(tiny_study, tiny.options(training={"steps": 4, "batch_size": 4}), "calm", "work-2")
    for path in calm.rglob("*.safetensors"):
        assert path.read_bytes() == (watched / path.relative_to(calm)).read_bytes()


def test_trackers_get_the_loss_by_step(tmp_path, monkeypatch):
    logged = []

    class Recorder(tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "tensorboard", True, None

        def __init__(self, run_name, logging_dir, **more):
            super().__init__()
            assert str(logging_dir).startswith(str(tmp_path))

        def start(self):
            pass

        def store_init_configuration(self, values):
            json.dumps(values)

        def log(self, values, step, **more):
            logged.append((step, values["loss"], values["learning_rate"]))

        def finish(self):
            logged.append("finished")

    monkeypatch.setattr(training, "find_spec", lambda name: name)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorder)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [tracking.LoggerType.TENSORBOARD])
    _, history = run(tmp_path, trackers=["tensorboard"])
    rows = [row for row in logged if row != "finished"]
    assert [row[0] for row in rows] == history["step"].tolist()
    assert [row[1] for row in rows] == history["loss"].tolist()
    assert "finished" in logged


def test_a_tracker_that_is_not_installed_is_named_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed here; `pip install wandb`"):
        run(tmp_path, trackers=["wandb"])


def test_trackers_are_no_part_of_what_a_training_is(tiny_study):
    plain = tiny.generator_options(tiny.options())
    tracked = tiny.generator_options(tiny.options(), trackers=["tensorboard"])
    assert plain.identity() == tracked.identity()
    assert "trackers" not in plain.model_dump_json()  # so that no finished study is trained again
    assert json.loads(tracked.model_dump_json())["trackers"] == ["tensorboard"]
