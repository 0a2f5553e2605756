"""`stedm segmentation` and `stedm predict`."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, PROCESSES, SPLIT, argument, command, files, flag, out, stage, work

if TYPE_CHECKING:
    from stedm.config import SegmentationOptions


@stage(
    "segmentation train",
    "SegmentationOptions",
    SPLIT,
    PATCHES,
    files(
        "--synthetic",
        "H5",
        "shards of generated images",
        lambda results, arm, split: results.synthetic_images(arm, split),
        needed=False,
        nargs="*",
        default=[],
    ),
    work("segmentation"),
    PROCESSES,
    out(
        "DIR",
        "smp folder, with history.csv and provenance.json",
        lambda results, arm, split, seed: results.network(arm, split, seed),
    ),
    names=["arm", "split", "seed"],
)
def train_network(options: "SegmentationOptions", args: argparse.Namespace) -> None:
    """Train the segmentation network of one arm."""
    from stedm.segmentation.training import train_network

    train_network(options, args.split, args.patches, args.synthetic, work=args.work, out=args.out)


@command(
    "predict",
    files("slides", "SLIDE", "slide, or folder of slides"),
    argument("--model", "DIR", "segmentation network (smp folder, or hf:owner/name)"),
    out(
        "DIR",
        "for each slide {slide}.prediction.tif (label map), .geojson (polygons) and, when it is done, .json",
        shared=True,
    ),
    argument("--overlap", "X", "of windows, as a share of their size (0.5)", needed=False, type=float, default=0.5),
    argument("--batch-size", "N", "windows predicted at a time (64)", needed=False, type=int, default=64),
    argument("--mpp", "X", "µm per pixel of the slides, whatever their files say", needed=False, type=float),
    argument(
        "--origin",
        "ORIGIN",
        "what maps and polygons cover: bounds, the scanned area, as QuPath shows it (default), or canvas",
        needed=False,
        type=str,
        choices=["bounds", "canvas"],
        default="bounds",
    ),
    argument(
        "--application",
        "HOW",
        "as_is; normalise: recolour the slide to the training slides; adabn: batch normalisation with its statistics",
        needed=False,
        type=str,
        choices=["as_is", "normalise", "adabn"],
        default="as_is",
    ),
    argument(
        "--precision",
        "P",
        "bf16 (default) or fp32, on CUDA; the CPU always computes in fp32",
        needed=False,
        type=str,
        choices=["bf16", "fp32"],
        default="bf16",
    ),
    flag("--compile", "compile the network on CUDA: a minute at the start, for many slides"),
    flag("--redo", "predict those slides again that are done"),
)
def predict(args: argparse.Namespace) -> None:
    """Apply a segmentation network to whole slides."""
    from pydantic import ValidationError

    from stedm.config import Device, Windows, messages
    from stedm.errors import UserError
    from stedm.segmentation.predict import predict_slides

    try:
        windows = Windows(overlap=args.overlap, batch_size=args.batch_size)
    except ValidationError as error:
        raise UserError([f"--{line.replace('_', '-')}" for line in messages(error, Windows)]) from None
    predict_slides(
        windows,
        args.model,
        args.slides,
        out=args.out,
        application=args.application,
        mpp=args.mpp,
        origin=args.origin,
        redo=args.redo,
        device=Device(precision=args.precision, compile=args.compile),
    )
