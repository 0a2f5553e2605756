"""`stedm first-stage`: the autoencoder and its latents."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, PROCESSES, SPLIT, argument, out, stage, work

if TYPE_CHECKING:
    from stedm.config import FirstStageOptions, LatentsOptions, PretrainedFirstStageOptions


@stage(
    "first-stage train",
    "FirstStageOptions",
    SPLIT,
    PATCHES,
    work("first_stage"),
    PROCESSES,
    out("DIR", "AutoencoderKL folder", lambda results, split: results.first_stage(split)),
    names=["split"],
)
def train_first_stage(options: "FirstStageOptions", args: argparse.Namespace) -> None:
    """Train the autoencoder on the training patients' patches."""
    from stedm.first_stage import train_first_stage

    train_first_stage(options, args.split, args.patches, work=args.work, out=args.out)


@stage(
    "first-stage prepare",
    "PretrainedFirstStageOptions",
    SPLIT,
    PATCHES,
    out("DIR", "autoencoder folder", lambda results, split: results.first_stage(split)),
    names=["split"],
)
def prepare_first_stage(options: "PretrainedFirstStageOptions", args: argparse.Namespace) -> None:
    """Load a pretrained autoencoder and scale its latents to unit variance."""
    from stedm.first_stage import prepare_first_stage

    prepare_first_stage(options, args.split, args.patches, out=args.out)


@stage(
    "first-stage encode",
    "LatentsOptions",
    argument("--model", "DIR", "autoencoder folder", lambda results, split: results.first_stage(split)),
    SPLIT,
    PATCHES,
    out(
        "DIR",
        "latents {slide}.h5: (N, 8, C, h, w) float16, in all flips and quarter turns",
        lambda results, split: results.latents(split),
    ),
    names=["split"],
)
def encode_latents(options: "LatentsOptions", args: argparse.Namespace) -> None:
    """Encode all training patches as latents, once."""
    from stedm.first_stage import encode_latents

    encode_latents(options, args.model, args.split, args.patches, out=args.out)
