"""What a training step and a generated image cost: the paper's way, as its released code goes, and ours.

    python benchmarks/generator.py --patch 256 512 --json

`released` encodes images with the first stage at each step, embeds ten style images at their full size, takes the
optimizer and the average one parameter at a time, and generates with 143 steps, each of which calls the network for
either branch of guidance, all in fp32. `paper` and `improved` are our presets, on cached latents of the paper's VQ-f4,
as `released`; `improved_f8` is `improved` on latents of a KL-f8 of Stable Diffusion's shape. All weights are random.
FLOPs are counted without computing anything (multiply-adds count twice).

An image is worked out from the seconds of one call of the network with both branches of guidance and one with one,
times the steps of each kind, plus decoding; the sampler's own arithmetic is not in it. On the CPU seconds are those of
the process, so that other programs on the machine do not count. Each way has a process of its own, whose peak memory
(of the GPU with CUDA) is that of the training, which needs more than the sampling.

`--profile` shows where the time of ten training steps of `improved` goes.
"""

import argparse
import copy
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn
from torch.profiler import record_function
from torch.utils.flop_counter import FlopCounterMode

from stedm.config import Device, Generator
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import autocast, default_workers, device, device_name, made_fast, to_device
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.pipeline import sampler, set_times
from stedm.diffusion.training import GeneratorLoss, GeneratorNetworks
from stedm.first_stage import FirstStage, first_stage_of
from stedm.hdf5 import new_file
from stedm.processes import BatchRng
from stedm.store import Patch, PatchFile, write_patches
from stedm.style.canonical import Canonical
from stedm.training import loader, moving_average

WAYS = ("released", "paper", "improved", "improved_f8")
RELEASED_STEPS = 143
CLASSES = ["stroma", "tumour"]
PATCHES = 24
"""Of each of two slides."""


def vq_f4() -> VQModel:
    """The paper's VQ-f4."""
    return VQModel(
        block_out_channels=[128, 256, 512],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=2,
        latent_channels=3,
        num_vq_embeddings=8192,
    )


def kl_f8() -> AutoencoderKL:
    """Of the shape of Stable Diffusion's."""
    return AutoencoderKL(
        block_out_channels=[128, 256, 512, 512],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
    )


def autoencoder(way: str) -> VQModel | AutoencoderKL:
    return kl_f8() if way == "improved_f8" else vq_f4()


def preset(way: str, batch_size: int) -> Generator:
    name = {"released": "paper", "improved_f8": "improved"}.get(way, way)
    values = {"annotated_fraction": max(0.5, 1 / batch_size), "training": {"steps": 1, "batch_size": batch_size}}
    return Generator.model_validate({"preset": name, **values})


def make_patches(folder: Path, size: int, latent: tuple[int, ...]) -> list[PatchFile]:
    """An annotated and an unannotated slide of noise, with latents of noise."""
    rng = np.random.default_rng(0)
    files = []
    for slide in ("annotated", "unannotated"):
        labels = (rng.random((size, size)) < 0.5).astype(np.uint8) if slide == "annotated" else None
        patches = [
            Patch(rng.integers(0, 256, (size, size, 3), dtype=np.uint8), labels, (x * size, 0), 1.0)
            for x in range(PATCHES)
        ]
        attributes = {"slide": slide, "patient": slide, "group": "", "downsample": 1.0}
        write_patches(folder / f"{slide}.h5", patches, size, CLASSES, attributes)
        files.append(PatchFile(folder / f"{slide}.h5"))
        (folder / "latents").mkdir(exist_ok=True)
        with new_file(folder / "latents" / f"{slide}.h5") as cache:
            values = rng.normal(size=(PATCHES, 8, *latent)).astype("f2")
            cache.create_dataset("latents", data=values, chunks=(1, 1, *latent), fletcher32=True)
            cache.attrs.update(slide=slide)
    return files


class Clock:
    """Seconds, all in all and of the networks: of the process on the CPU, of the wall on CUDA."""

    def __init__(self) -> None:
        self.network = 0.0

    def now(self) -> float:
        if device().type != "cuda":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    @contextmanager
    def of_network(self) -> Iterator[None]:
        start = self.now()
        yield
        self.network += self.now() - start

    def watch(self, *networks: nn.Module | None) -> None:
        """Count the calls of these networks."""
        starts: list[float] = []
        for network in networks:
            if network is not None:
                network.register_forward_pre_hook(lambda *_: starts.append(self.now()))
                network.register_forward_hook(lambda *_: self.add(starts.pop()))

    def add(self, start: float) -> None:
        self.network += self.now() - start


@contextmanager
def training_step(
    way: str, batch_size: int, size: int, steps: int, options: Device, clock: Clock | None
) -> Iterator[Callable[[int], None]]:
    """A training step, as a function of its number: loading (on CUDA by other processes, as in a training), loss,
    gradient, optimizer, average.

    The clock, where there is one, counts the networks; on CUDA it makes the host wait for each of them.
    """
    chosen = preset(way, batch_size)
    stage = first_stage_of(autoencoder(way).to(device()).eval().requires_grad_(False))
    networks = GeneratorNetworks(chosen, len(CLASSES), stage).to(device()).train()
    ours, encoder = way != "released", networks.style.encoder
    if ours:
        made_fast(options, networks.unet, encoder and encoder.network)
    if clock is not None:
        clock.watch(networks.unet, encoder and encoder.network)
    with tempfile.TemporaryDirectory() as folder:
        files = make_patches(Path(folder), size, (stage.channels, size // stage.factor, size // stage.factor))
        latents = Path(folder) / "latents" if ours else None
        data = GeneratorBatches(chosen, files[:1], files[1:], 0, latents)
        loss = GeneratorLoss(chosen, stage, Canonical(files) if chosen.style.canonical else None)
        optimizer = torch.optim.AdamW(networks.parameters(), 1e-4, fused=ours, foreach=False)
        batches = iter(loader(0, 1 + steps, data, default_workers()))
        average = copy.deepcopy(networks)
        update = moving_average(0.999, average, networks) if ours else lambda n: one_by_one(average, networks)

        def step(number: int) -> None:
            with record_function("batch"):
                batch = to_device(next(batches))
            with record_function("forward"), autocast(options if ours else Device(precision="fp32")):
                value = loss(networks, batch, BatchRng(0, number))
            with record_function("backward"), nullcontext() if clock is None else clock.of_network():
                value.backward()
            with record_function("optimizer and average"):
                nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                update(number)

        yield step


def training(way: str, batch_size: int, size: int, steps: int, options: Device) -> dict[str, float]:
    """Seconds of a training step, and how much of it is not in the networks."""
    clock = Clock()
    with training_step(way, batch_size, size, steps, options, clock) as step:
        if device().type == "cuda":
            step(0)  # compiles, and finds the fastest kernels
        clock.network, start = 0.0, clock.now()
        for number in range(1, 1 + steps):
            step(number)
        seconds = clock.now() - start
    return {
        "train_seconds": seconds / steps,
        "train_images_per_second": batch_size * steps / seconds,
        "train_share_not_in_network": 1 - clock.network / seconds,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Most memory that this process had: of the GPU, or of the host."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def profile(batch_size: int, size: int, steps: int, options: Device) -> None:
    """Show where the time of training steps of `improved` goes: by part of the step, and by operation."""
    on_gpu = device().type == "cuda"
    with training_step("improved", batch_size, size, steps, options, None) as step:
        step(0)
        start = time.perf_counter()
        with torch.profiler.profile() as profiler:
            for number in range(1, 1 + steps):
                step(number)
            if on_gpu:
                torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    events = profiler.key_averages()

    def show(name: str, total: float) -> None:
        print(f"{name:40s}{total / 1e6 / steps:9.3f} s a step{total / 1e4 / seconds:7.1f}%")

    for event in events:
        if event.key in ("batch", "forward", "backward", "optimizer and average"):
            show(event.key, event.device_time_total if on_gpu else event.cpu_time_total)
    own = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    print()
    for name in sorted(own, key=lambda key: -own[key])[:12]:
        show(name, own[name])
    print(f"{'all':40s}{seconds / steps:9.3f} s a step")


@torch.no_grad()
def one_by_one(average: nn.Module, model: nn.Module) -> None:
    for target, source in zip(average.parameters(), model.parameters(), strict=True):
        target.mul_(0.999).add_(source, alpha=0.001)


@torch.no_grad()
def sampling(way: str, batch_size: int, size: int, options: Device) -> dict[str, float]:
    """Seconds of an image: its style, each step, and the decoder."""
    chosen = preset(way, batch_size)
    stage = first_stage_of(autoencoder(way).to(device()).eval())
    networks = GeneratorNetworks(chosen, len(CLASSES), stage).to(device()).eval()
    ours, style = way != "released", networks.style
    if ours:
        made_fast(options, networks.unet, style.encoder and style.encoder.network)
    side = size // stage.factor
    noisy = torch.randn(batch_size, stage.channels, side, side, device=device())
    layout = torch.zeros(batch_size, size, size, dtype=torch.uint8, device=device())
    images = torch.zeros(batch_size * chosen.style.images, 3, size, size, device=device())
    time_ = torch.tensor(500, device=device())
    embeddings = torch.zeros(batch_size, chosen.style.images, style.encoder.embedding_dim, device=device())
    maps = networks.unet.encode_layout(layout)
    conditions = [style(embeddings), style(style.null().expand_as(embeddings))]

    def together(branches: int) -> None:
        tokens, pooled = (torch.cat(parts) for parts in zip(*conditions[:branches], strict=True))
        networks.unet(torch.cat([noisy] * branches), time_, torch.cat([maps] * branches), tokens, pooled)

    def one_by_one() -> None:
        for condition in conditions:
            networks.unet(noisy, time_, layout, *condition)

    guided, plain = evaluations(way)
    with autocast(options if ours else Device(precision="fp32")):
        parts = {
            "embed": 0.0 if ours else seconds_of(lambda: style.embed(images)),  # ours are in the style bank
            "guided": guided * seconds_of((lambda: together(2)) if ours else one_by_one),
            "plain": plain * seconds_of(lambda: together(1)) if plain else 0.0,
            "decode": seconds_of(lambda: stage.decode(noisy)),
        }
    return {
        "image_seconds": sum(parts.values()) / batch_size,
        "image_share_not_in_network": (parts["embed"] + parts["decode"]) / sum(parts.values()),
    }


def evaluations(way: str) -> tuple[int, int]:
    """Steps of the sampler with guidance, which call the network for either branch, and without."""
    if way == "released":
        return RELEASED_STEPS, 0
    chosen = preset(way, 1)
    scheduler = sampler(chosen.sampling, chosen.objective)
    set_times(scheduler, chosen.sampling.steps, torch.device("cpu"))
    low, high = chosen.sampling.guidance_interval
    guided = sum(low <= time / chosen.objective.timesteps <= high for time in scheduler.timesteps.tolist())
    guided *= chosen.sampling.guidance_scale > 1
    return guided, len(scheduler.timesteps) - guided


def seconds_of(function: Callable[[], Any]) -> float:
    clock = Clock()
    if device().type == "cuda":
        function()
    start = clock.now()
    function()
    return clock.now() - start


def flops(way: str, size: int) -> dict[str, float]:
    """FLOPs of one training image and of one generated image."""
    chosen = preset(way, 1)
    with torch.device("meta"):
        stage = first_stage_of(autoencoder(way))
        networks = GeneratorNetworks(chosen, len(CLASSES), stage)
        side = size // stage.factor
        noisy = torch.empty(1, stage.channels, side, side)
        dim = chosen.style.encoder.dim
        condition = torch.zeros(1, size, size, dtype=torch.uint8), torch.empty(1, 4, dim), torch.empty(1, dim)
        unet = counted(lambda: networks.unet(noisy, torch.zeros(1, dtype=torch.long), *condition))
        limit = chosen.style.encoder.size
        seen = size if limit is None else min(limit, size)
        shown = torch.empty(1, 3, seen, seen)
        style = chosen.style.images * counted(lambda: networks.style.encoder.network(shown))
        image = torch.empty(1, 3, size, size)
        encode, decode = counted(lambda: stage.encode(image)), counted(lambda: decoded(stage, noisy))
    ours = way != "released"
    guided, plain = evaluations(way)
    return {
        "train_gflop": (3 * unet + 3 * style + (0 if ours else encode)) / 1e9,
        "calls_per_image": 2 * guided + plain,
        "image_gflop": ((2 * guided + plain) * unet + (0 if ours else style) + decode) / 1e9,
    }


def decoded(stage: FirstStage, latents: Tensor) -> Tensor:
    """The decoder alone: the nearest entry of the code book, which comes before, has no shapes without values."""
    module: Any = stage.module  # type: ignore[attr-defined]
    return module.decoder(module.post_quant_conv(latents))


def counted(function: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function()
    return counter.get_total_flops()


def measure(way: str, size: int, batch_size: int, steps: int, options: Device) -> dict[str, float]:
    """All figures of one way; call it in a process of its own, as memory is that of the process."""
    found = training(way, batch_size, size, steps, options)
    return flops(way, size) | found | sampling(way, batch_size, size, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs="+", default=[256], help="pixels of an image's side (default: 256)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1, help="training steps that are timed (default: 1)")
    parser.add_argument("--compile", action="store_true", help="compile ours, on CUDA")
    parser.add_argument("--flops-only", action="store_true", help="count, without measuring")
    parser.add_argument("--profile", action="store_true", help="ten training steps of `improved`, and nothing else")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on the last line")
    arguments = parser.parse_args()
    options = DEFAULT_DEVICE.model_copy(update={"compile": arguments.compile})
    print(f"{device_name()}, {torch.get_num_threads()} threads, batch of {arguments.batch_size}")
    if arguments.profile:
        profile(arguments.batch_size, arguments.patch[0], 10, options)
        return
    everything: dict[str, Any] = {"device": device_name(), "batch_size": arguments.batch_size}
    spawn = multiprocessing.get_context("spawn")
    for size in arguments.patch:
        print(f"\n{size} px")
        found: dict[str, dict[str, float]] = {}
        for way in arguments.ways:
            if arguments.flops_only:
                found[way] = flops(way, size)
            else:
                with ProcessPoolExecutor(1, spawn) as process:
                    given = way, size, arguments.batch_size, arguments.steps, options
                    found[way] = process.submit(measure, *given).result()
            print(way, *(f"{name} {value:,.3f}" for name, value in found[way].items()), sep="\n    ", flush=True)
        for name in ("train_gflop", "image_gflop", "train_seconds", "image_seconds", "peak_mb"):
            if name in found.get("released", {}):
                ours = {way: values for way, values in found.items() if way != "released"}
                ratios = ", ".join(
                    f"{way} {found['released'][name] / values[name]:.1f}" for way, values in ours.items()
                )
                print(f"released / ours, {name}: {ratios}", flush=True)
        everything[f"{size} px"] = found
    if arguments.json:
        print(json.dumps(everything))


if __name__ == "__main__":
    main()
