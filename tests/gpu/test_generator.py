"""Training and sampling of a generator on CUDA: precision, compiled networks, waiting for the host, memory."""

import os
import subprocess
import sys
import time
import types

import pandas as pd
import pytest
import torch
from conftest import make_tiny_study
from tiny import CLASSES, generator_options, options, train

from stedm import training as loop
from stedm.config import Device, Generator
from stedm.device import BatchSize, autocast, device, to_device
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.pipeline import load_pipeline
from stedm.diffusion.training import GeneratorLoss, GeneratorNetworks
from stedm.errors import Interrupted
from stedm.first_stage import PixelFirstStage
from stedm.processes import BatchRng
from stedm.style.canonical import Canonical
from stedm.training_set import files_of

STEPS = 20


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_tiny_study(tmp_path_factory.mktemp("study"))


def losses(study, name, device=Device(precision="fp32"), work=None):  # noqa: B008
    chosen = options(training={"steps": STEPS, "checkpoint_minutes": 60})
    train(study, chosen, name, work or f"work-{name}", device=device)
    return torch.tensor(pd.read_csv(study / name / "history.csv")["loss"].tolist())


@pytest.fixture(scope="module")
def plain(study):
    """The losses of a training in fp32, not compiled."""
    return losses(study, "plain")


def test_training_stopped_and_resumed_has_the_same_losses(study, plain, monkeypatch):
    count = []
    original = GeneratorLoss.__call__

    def stopped(self, *arguments):
        count.append(1)
        if len(count) == 8:
            os.kill(os.getpid(), 15)
        return original(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(GeneratorLoss, "__call__", stopped)
        with pytest.raises(Interrupted):
            losses(study, "resumed", work="stopped")
    torch.testing.assert_close(losses(study, "resumed", work="stopped"), plain, rtol=1e-3, atol=1e-4)


def test_bf16_learns_as_fp32_does(study, plain):
    torch.testing.assert_close(losses(study, "bf16", Device(precision="bf16")), plain, rtol=0.1, atol=0.02)


def test_compiled_networks_learn_as_others_do(study, plain):
    found = losses(study, "compiled", Device(precision="fp32", compile=True))
    torch.testing.assert_close(found, plain, rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_bf16_generates_nearly_the_same_images(study, plain):
    pipeline = load_pipeline(study / "plain").to(device())
    pipeline.set_progress_bar_config(disable=True)
    found = []
    for precision in ("fp32", "bf16"):
        with autocast(Device(precision=precision)):
            layout, style = torch.zeros(2, 32, 32, dtype=torch.uint8), torch.zeros(2, 2, 3, 32, 32)
            seeds = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
            found.append(pipeline(layout, style, generator=seeds).images)
    assert (found[0] - found[1]).abs().mean() < 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_host(study, precision):
    chosen, chosen_device = options(), Device(precision=precision)
    annotated, unannotated = (
        files_of(study / "split.csv", study / "patches", role) for role in ("annotated", "unannotated")
    )
    stage = PixelFirstStage(4).to(device())
    networks = GeneratorNetworks(chosen, len(CLASSES), stage).to(device())
    loss = GeneratorLoss(chosen, stage, Canonical(annotated + unannotated))
    optimizer = torch.optim.AdamW(networks.parameters(), 1e-3, fused=True)
    data = GeneratorBatches(chosen, annotated, unannotated, 0)
    average = loop.moving_average(0.9, GeneratorNetworks(chosen, len(CLASSES), stage).to(device()), networks)

    def step(number):
        batch = to_device({name: values.pin_memory() for name, values in data[number].items()})
        with autocast(chosen_device):
            value = loss(networks, batch, BatchRng(0, number))
        value.backward()
        torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        optimizer.step()
        average(number)

    step(0)  # tables are copied once
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(1)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_that_runs_out_halves_the_batch_and_loses_nothing(caplog):
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0]
    item = free // 6  # four fit, eight do not

    def function(some):
        maps = [torch.empty(item, dtype=torch.uint8, device=device()) for _ in some]
        return [value * 2 for value in some if maps]

    found = [value for _, values in BatchSize(8).batches(range(12), function) for value in values]
    assert found == [2 * value for value in range(12)]
    assert "going on with 4" in caplog.text


def test_batches_grow_to_what_memory_holds():
    def function(some):
        torch.empty(len(some) * 2**24, dtype=torch.uint8, device=device())
        return len(some)

    at_once = BatchSize(None)
    counts = [count for _, count in at_once.batches(range(100_000), function)]
    assert counts[0] == 32
    assert counts[1] > 32


@pytest.mark.parametrize("preset", ["improved", "paper"])
def test_a_step_at_256_px_fits_and_says_what_it_takes(preset, record_property):
    chosen = Generator.model_validate({"preset": preset, "training": {"steps": 1, "batch_size": 8}})
    stage = types.SimpleNamespace(factor=4, channels=3)
    networks = GeneratorNetworks(chosen, 2, stage).to(device(), memory_format=torch.channels_last)
    loss = GeneratorLoss(chosen, stage)
    optimizer = torch.optim.AdamW(networks.parameters(), 1e-4, fused=True)
    batch = {
        "latents": torch.randn(8, 3, 64, 64, device=device()),
        "layout": torch.zeros(8, 256, 256, dtype=torch.uint8, device=device()),
        "slide": torch.zeros(8, dtype=torch.long, device=device()),
        "style_images": torch.zeros(8, chosen.style.images, 256, 256, 3, dtype=torch.uint8, device=device()),
    }
    torch.cuda.reset_peak_memory_stats()
    for number in range(4):
        if number == 1:
            torch.cuda.synchronize()
            start = time.perf_counter()
        with autocast(Device()):
            loss(networks, batch, BatchRng(0, number)).backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.cuda.synchronize()
    gigabytes, seconds = torch.cuda.max_memory_allocated() / 2**30, (time.perf_counter() - start) / 3
    record_property("gpu_gigabytes", gigabytes)
    print(f"{torch.cuda.get_device_name()}, {preset}, 8 × 256 px: {gigabytes:.1f} GiB, {seconds:.3f} s a step")
    assert gigabytes < 0.9 * torch.cuda.get_device_properties(0).total_memory / 2**30


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs here")
def test_two_gpus_train_what_one_trains(study):
    chosen = generator_options(Generator.model_validate(options().model_dump()), device=Device(precision="fp32"))
    found = []
    for name, processes in (("one", 1), ("two", 2)):
        command = [sys.executable, "-m", "stedm.cli", "generator", "train", "--options", chosen.model_dump_json()]
        command += ["--split", study / "split.csv", "--patches", study / "patches", "--processes", str(processes)]
        subprocess.run([*command, "--work", study / f"nccl-{name}", "--out", study / f"gpu-{name}"], check=True)
        found.append(pd.read_csv(study / f"gpu-{name}/history.csv")["loss"].tolist())
    assert found[1] == pytest.approx(found[0], rel=1e-3)
