"""What a first stage costs, and what a generator costs on its latents.

    python benchmarks/first_stages.py --patch 256 512 --json

For each first stage: the latents of one patch, their cache (8 orientations in 16 bits), and operations, seconds and
peak memory of encoding and decoding. For each grid of latents: operations, seconds and memory of a forward and a
backward pass of the U-Net of `improved`, for one patch. Weights are random, the shapes those of published models:
Stable Diffusion's (KL), the paper's (VQ), TAESD (Tiny), DC-AE f32c32 (DC).

Each row is a process of its own. On the CPU seconds are those of the process; memory is what is beyond the libraries.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderTiny
from generator import counted, kl_f8, peak_mb, preset, seconds_of, vq_f4

from stedm.device import device, device_name
from stedm.diffusion.model import build_unet
from stedm.first_stage import PixelFirstStage, first_stage_of

DC_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3


def dc() -> AutoencoderDC:
    channels = (128, 256, 512, 512, 1024, 1024)
    return AutoencoderDC(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_block_types=DC_BLOCKS,
        decoder_block_types=DC_BLOCKS,
        encoder_layers_per_block=(2, 2, 2, 3, 3, 3),
        decoder_layers_per_block=(3, 3, 3, 3, 3, 3),
        encoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,), (5,), (5,)),
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )


STAGES: dict[str, Callable[[], Any]] = {
    "pixel blocks of 4": lambda: PixelFirstStage(4),
    "VQ f4": vq_f4,
    "KL f8": kl_f8,
    "Tiny f8": AutoencoderTiny,
    "DC f32": dc,
}


@torch.no_grad()
def first_stage(name: str, size: int) -> dict[str, float]:
    """Encoding and decoding of one patch."""
    with torch.device("meta"):
        image = torch.empty(1, 3, size, size)
        if name == "pixel blocks of 4":
            operations = {"encode_gflop": 0.0, "decode_gflop": 0.0}  # a product with a matrix of 16 × 16
        else:
            module = STAGES[name]()
            encode = counted(lambda: module.encode(image)) / 1e9
            stage = first_stage_of(module)
            latents = torch.empty(1, stage.channels, size // stage.factor, size // stage.factor)
            quantised = getattr(module, "post_quant_conv", lambda values: values)
            decode = (
                counted(lambda: module.decoder(quantised(latents))) / 1e9
            )  # a code book has no shapes without values
            operations = {"encode_gflop": encode, "decode_gflop": decode}
    stage = first_stage_of(STAGES[name]().to(device()).eval())
    image = torch.rand(1, 3, size, size, device=device()) * 2 - 1
    before = peak_mb()
    encode_seconds = seconds_of(lambda: stage.encode(image))
    latents = torch.randn(1, stage.channels, size // stage.factor, size // stage.factor, device=device())
    decode_seconds = seconds_of(lambda: stage.decode(latents))
    return {
        "channels": stage.channels,
        "side": size // stage.factor,
        "cache_kb": 8 * 2 * latents.numel() / 1024,
        **operations,
        "encode_seconds": encode_seconds,
        "decode_seconds": decode_seconds,
        "memory_mb": peak_mb() - before,
    }


def generator(name: str, side: int) -> dict[str, float]:
    """A forward and a backward pass of the U-Net on a grid of latents with 4 channels."""
    chosen = preset("improved", 1)

    def inputs() -> tuple[Any, ...]:
        dim, size = chosen.style.encoder.dim, 4 * side
        layout = torch.zeros(1, size, size, dtype=torch.uint8)
        return torch.zeros(1, 4, side, side), torch.zeros(1, dtype=torch.long), layout, *torch.zeros(2, 1, 4, dim)

    with torch.device("meta"):
        unet = build_unet(chosen, 2, 4, 4)
        noisy, time, layout, tokens, pooled = inputs()
        operations = counted(lambda: unet(noisy, time, layout, tokens, pooled[:, 0]))
    unet = build_unet(chosen, 2, 4, 4).to(device())
    noisy, time, layout, tokens, pooled = (tensor.to(device()) for tensor in inputs())
    before = peak_mb()
    seconds = seconds_of(lambda: unet(noisy, time, layout, tokens, pooled[:, 0]).square().mean().backward())
    weights = sum(values.nbytes for values in unet.parameters()) / 2**20  # of the gradients
    return {"train_gflop": 3 * operations / 1e9, "train_seconds": seconds, "memory_mb": peak_mb() - before - weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs="+", default=[256, 512], help="pixels of a patch's side")
    parser.add_argument("--grid", type=int, nargs="+", default=[16, 32, 64, 128], help="sides of grids of latents")
    parser.add_argument("--json", action="store_true", help="the figures as JSON on the last line")
    arguments = parser.parse_args()
    print(f"{device_name()}, {torch.get_num_threads()} threads")
    rows = [(first_stage, name, size) for size in arguments.patch for name in STAGES]
    rows += [(generator, "generator", side) for side in arguments.grid]
    everything: dict[str, Any] = {"device": device_name()}
    for function, name, size in rows:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            found = process.submit(function, name, size).result()
        everything[f"{name}, {size}"] = found
        print(f"{name}, {size}:", *(f"{key} {value:,.2f}" for key, value in found.items()), sep="  ", flush=True)
    if arguments.json:
        print(json.dumps(everything))


if __name__ == "__main__":
    main()
