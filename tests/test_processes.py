"""Trainings by two processes, on the CPU with gloo. Run as a script, this trains in those that torchrun started."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny import TINY, generator_options
from torch import nn
from torch.utils.data import Dataset

from stedm import config
from stedm.config import Generator
from stedm.processes import all_items, own_items
from stedm.training import train

pytestmark = pytest.mark.slow  # fifteen processes that import torch

STEPS, BATCH = 40, 8


class Numbers(Dataset):
    """Item i is a batch that i is the seed of."""

    def __getitem__(self, step):
        x = own_items(torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(step)))
        return {"x": x, "y": x.sum(1, keepdim=True)}


def objective(model, batch, rng):
    """A mean over items with noise of their own, and a ratio of sums over the whole batch, as Dice is."""
    found = model(batch["x"] + 0.1 * rng.normal(*batch["x"].shape))
    wanted, all_found = all_items(batch["y"]), all_items(found)
    return (found - batch["y"]).square().mean() + (all_found * wanted).sum() / (all_found.square() + 1).sum()


def train_numbers(work, seconds=0.0, batch_size=BATCH):
    def slow(model, batch, rng):
        time.sleep(seconds)
        return objective(model, batch, rng)

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
    options = config.Training(steps=STEPS, batch_size=batch_size, learning_rate=0.01, checkpoint_minutes=1e-9)
    model, history = train(network, slow, Numbers(), options, config.Device(), 1, work)
    return model.state_dict(), history


def two_processes(*arguments):
    return torchrun("--standalone", "--nproc-per-node=2", __file__, *arguments)


def torchrun(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(launched):
    _, said = launched.communicate(timeout=600)
    assert launched.returncode == 0, said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Where two processes left weights and history."""
    path = tmp_path_factory.mktemp("two") / "undisturbed"
    finish(two_processes(path))
    return path


def test_two_processes_train_what_one_trains(tmp_path, undisturbed):
    weights, history = train_numbers(tmp_path)
    shared = pd.read_csv(undisturbed.with_suffix(".csv"))
    assert shared["step"].tolist() == history["step"].tolist()
    assert shared["loss"].tolist() == pytest.approx(history["loss"].tolist(), rel=1e-5)
    assert shared["loss"].iloc[-1] < 0.5 * shared["loss"].iloc[0]
    for name, value in load_file(undisturbed.with_suffix(".safetensors")).items():
        assert torch.allclose(value, weights[name], atol=1e-5), name


def test_two_processes_stopped_by_a_signal_go_on_where_they_were(tmp_path, undisturbed):
    launched = two_processes(tmp_path / "stopped", 0.1)
    while not list((tmp_path / "stopped").glob("step-*.pt")) and launched.poll() is None:
        time.sleep(0.1)
    launched.send_signal(signal.SIGTERM)
    _, said = launched.communicate(timeout=600)
    assert launched.returncode != 0
    stopped = re.findall(r"stopped by a signal after step (\d+)", said)
    assert len(stopped) >= 2 and len(set(stopped)) == 1, said  # both, at the same step
    finish(two_processes(tmp_path / "stopped"))
    weights = (tmp_path / "stopped.safetensors").read_bytes()
    assert weights == undisturbed.with_suffix(".safetensors").read_bytes()


def test_two_nodes_train_what_two_processes_of_one_train(tmp_path, undisturbed):
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        meeting = f"--rdzv-endpoint=localhost:{unused.getsockname()[1]}"
    node = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", meeting, __file__, tmp_path / "nodes")
    for launched in [torchrun(*node), torchrun(*node)]:
        finish(launched)
    assert (tmp_path / "nodes.safetensors").read_bytes() == undisturbed.with_suffix(".safetensors").read_bytes()


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    _, said = two_processes(tmp_path / "odd", 0, 7).communicate(timeout=600)
    assert "training.batch_size: 7 items cannot be shared by 2 processes" in said


def test_the_command_trains_a_generator_in_two_processes(tiny_study):
    def run(name, *more):
        options = generator_options(Generator.model_validate(TINY)).model_dump_json()
        command = [sys.executable, "-m", "stedm.cli", "generator", "train", "--options", options, *more]
        command += ["--split", tiny_study / "split.csv", "--patches", tiny_study / "patches"]
        subprocess.run([*command, "--work", tiny_study / f"work-{name}", "--out", tiny_study / name], check=True)
        return pd.read_csv(tiny_study / name / "history.csv")["loss"].tolist()

    assert run("two", "--processes", "2") == pytest.approx(run("one"), rel=1e-4)
    one, two = (load_file(tiny_study / name / "unet/diffusion_pytorch_model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    assert len(list((tiny_study / "work-two").glob("*/step-*.pt"))) == 1


if __name__ == "__main__":
    from safetensors.torch import save_file

    from stedm.processes import rank

    path = Path(sys.argv[1])
    weights, history = train_numbers(path, *map(float, sys.argv[2:3]), *map(int, sys.argv[3:]))
    if rank() == 0:
        save_file(weights, path.with_suffix(".safetensors"))
        history.to_csv(path.with_suffix(".csv"), index=False)
