import logging
import os
import signal
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from stedm import config, training
from stedm.errors import Interrupted, UserError
from stedm.processes import BatchRng
from stedm.training import learning_rate, moving_average, train

STEPS = 12
NOISE = 0.01


class Numbers(Dataset):
    """Item i is a batch that i is the seed of."""

    def __getitem__(self, step):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, 3, generator=generator)
        return {"x": x, "y": x.sum(1, keepdim=True)}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


def objective(model, batch, rng):
    """The sum of three numbers, found in noise."""
    return (model(batch["x"] + NOISE * rng.normal(*batch["x"].shape)) - batch["y"]).square().mean()


def options(**changes):
    values = {"steps": STEPS, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 3, "decay": "cosine"}
    return config.Training(**values | {"ema_decay": 0.9, "checkpoint_minutes": 1e-9} | changes)


def run(work, objective=objective, seed=1, **changes):
    return train(network(), objective, Numbers(), options(**changes), config.Device(), seed, work)


def interrupted_by(number, at_step):
    """An objective that sends a signal to this process at a step."""
    step = -1

    def objective_(model, batch, rng):
        nonlocal step
        step += 1
        if step == at_step:
            os.kill(os.getpid(), number)
        return objective(model, batch, rng)

    return objective_


def assert_same(one, other):
    (model, history), (other_model, other_history) = one, other
    for (name, value), expected in zip(model.state_dict().items(), other_model.state_dict().values(), strict=True):
        assert torch.equal(value, expected), name
    columns = ["step", "loss", "images_seen"]
    assert history[columns].equals(other_history[columns])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("step", [0, 6, STEPS - 1])
def test_training_stopped_by_a_signal_and_resumed_ends_with_the_same_weights(tmp_path, undisturbed, number, step):
    with pytest.raises(Interrupted, match=f"after step {step + 1}; run again"):
        run(tmp_path, interrupted_by(number, step), checkpoint_minutes=60)
    assert_same(run(tmp_path), undisturbed)


def test_killed_training_ends_with_the_same_weights(tmp_path, undisturbed):
    code = (
        "import signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import test_training as t; t.run(Path(sys.argv[1]), t.interrupted_by(signal.SIGKILL, 7))"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), here], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-000000006.pt", "step-000000007.pt"]
    assert_same(run(tmp_path), undisturbed)


def test_resuming_passes_over_a_damaged_checkpoint(tmp_path, undisturbed, caplog):
    with pytest.raises(Interrupted):
        run(tmp_path, interrupted_by(signal.SIGTERM, 7))
    newest = max(tmp_path.glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-100])
    with caplog.at_level(logging.INFO):
        again = run(tmp_path)
    assert f"{newest.name} cannot be read" in caplog.text
    assert "going on from step 7 of 12" in caplog.text
    assert_same(again, undisturbed)


def test_losses_since_the_last_row_of_the_history_survive_a_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HISTORY_ROWS", 4)  # a row every three steps
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", interrupted_by(signal.SIGTERM, 4))
    resumed, undisturbed = run(tmp_path / "stopped"), run(tmp_path / "undisturbed")
    assert undisturbed[1].step.tolist() == [3, 6, 9, 12]
    assert_same(resumed, undisturbed)


def test_workers_that_load_data_change_nothing(tmp_path, undisturbed):
    assert_same(run(tmp_path, workers=2), undisturbed)


def test_finished_training_is_not_trained_again(tmp_path, undisturbed):
    run(tmp_path)

    def never(model, batch, rng):
        raise AssertionError("a step was taken")

    assert_same(run(tmp_path, never), undisturbed)


def numbers(seed=1, step=5):
    rng = BatchRng(seed, step)
    return [rng.uniform(4, 3), rng.normal(4, 3), rng.integers(1000, 4).float()]


def test_random_numbers_are_a_function_of_seed_and_step_and_have_their_distribution():
    assert all(torch.equal(*pair) for pair in zip(numbers(), numbers(), strict=True))
    for other in (numbers(step=6), numbers(seed=2)):
        assert not any(torch.equal(*pair) for pair in zip(numbers(), other, strict=True))
    rng = BatchRng(0, 0)
    uniform, normal, integers = rng.uniform(9999), rng.normal(9999), rng.integers(3, 9999)
    assert (uniform.min() >= 0, uniform.max() < 1) == (True, True)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.02)
    assert (normal.mean().item(), normal.std().item()) == pytest.approx((0, 1), abs=0.05)
    assert integers.bincount().tolist() == pytest.approx([3333] * 3, abs=200)


def test_global_generators_play_no_part_in_the_numbers_of_a_step():
    torch.manual_seed(3)
    first = numbers()
    torch.manual_seed(4)
    assert torch.equal(first[1], numbers()[1])


def test_processes_share_the_random_numbers_of_one(monkeypatch):
    alone = BatchRng(1, 5).normal(6, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        assert torch.equal(BatchRng(1, 5).normal(3, 2), alone[rank::2])


def test_seed_changes_the_weights(tmp_path, undisturbed):
    model, _ = run(tmp_path, seed=2)  # dropout differs
    assert not torch.equal(model[0].weight, undisturbed[0][0].weight)


def test_training_learns(tmp_path):
    torch.manual_seed(0)
    model, history = train(
        nn.Linear(3, 1), objective, Numbers(), options(steps=300, learning_rate=0.05), config.Device(), 1, tmp_path
    )
    assert torch.allclose(model.weight, torch.ones(1, 3), atol=0.02)  # y is the sum of x
    assert history.loss.iloc[-1] < 1e-3
    assert history.images_seen.iloc[-1] == 300 * 4


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_non_finite_training_stops_and_names_step_and_checkpoint(tmp_path, bad):
    step = -1

    def diverging(model, batch, rng):
        nonlocal step
        step += 1
        loss = objective(model, batch, rng)
        if step < 5:
            return loss
        return loss * float("nan") if bad == "loss" else loss + (model[4].bias - model[4].bias.detach()).sqrt().sum()

    with pytest.raises(UserError, match=r"at step 5; last good checkpoint: step-000000005\.pt\. Lower"):
        run(tmp_path, diverging)
    weights = torch.load(tmp_path / "step-000000005.pt", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values())


def test_second_training_in_a_folder_is_refused(tmp_path):
    def nested(model, batch, rng):
        run(tmp_path)
        raise AssertionError("two trainings wrote to one folder")

    with pytest.raises(Interrupted, match="another process is training there"):
        run(tmp_path, nested)


def test_average_follows_its_formula():
    average, model = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update = moving_average(0.9, average, model)
    expected = 3.0  # the first step is taken over
    for n in range(200):
        nn.init.constant_(model.weight, n + 3.0)
        model.num_batches_tracked += 1
        update(n)
        decay = min(0.9, (1 + n) / (10 + n)) if n else 0.0
        expected = decay * expected + (1 - decay) * (n + 3)
    assert average.weight.item() == pytest.approx(expected, rel=1e-5)
    assert average.num_batches_tracked.item() == 200  # whole numbers are taken over, not averaged


def test_what_is_kept_is_the_average_with_its_batch_norm_statistics(tmp_path):
    last, _ = run(tmp_path / "last", ema_decay=0.0)
    average, _ = run(tmp_path / "average", ema_decay=0.9)
    state = torch.load(tmp_path / "average" / f"step-{STEPS:09d}.pt", weights_only=True)
    assert not average.training
    for name, value in average.state_dict().items():
        assert torch.equal(last.state_dict()[name], state["model"][name])  # 0 keeps the last weights
        if value.is_floating_point():
            assert not torch.equal(value, state["model"][name]), name


def test_learning_rate_warms_up_and_decays():
    def rate(step, decay):
        return learning_rate(step, options(steps=110, learning_rate=2.0, warmup_steps=10, decay=decay))

    for decay in ("constant", "linear", "cosine"):
        assert rate(0, decay) == pytest.approx(0.2)
        assert rate(10, decay) == pytest.approx(2.0)
    assert rate(60, "constant") == pytest.approx(2.0)
    assert rate(60, "linear") == pytest.approx(1.0)
    assert rate(35, "cosine") == pytest.approx(1 + 0.5**0.5)
    assert rate(60, "cosine") == pytest.approx(1.0)
    assert rate(109, "linear") == pytest.approx(0.02)
