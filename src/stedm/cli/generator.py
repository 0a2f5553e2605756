"""`stedm generator` and `stedm style-bank`."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, PROCESSES, SPLIT, argument, command, first, optional, out, stage, work

if TYPE_CHECKING:
    from stedm.config import GeneratorOptions, PredictedLayoutsOptions, StyleBankOptions


@command(
    "generator describe",
    argument("--preset", "NAME", "paper, improved or demo", type=str),
    argument("--patch-size", "PX", "side of an image", type=int),
    argument("--factor", "N", "pixels along each side of a latent pixel (4)", needed=False, type=int, default=4),
    argument("--latent-channels", "N", "channels of the latent (3)", needed=False, type=int, default=3),
    argument("--classes", "N", "classes of the layout (2)", needed=False, type=int, default=2),
)
def describe_preset(args: argparse.Namespace) -> None:
    """Print parameters, cost, and where style and layout enter, as JSON."""
    import json

    from pydantic import ValidationError

    from stedm.config import Generator, messages
    from stedm.diffusion.describe import describe
    from stedm.errors import UserError

    try:
        preset = Generator.model_validate({"preset": args.preset})
    except ValidationError as error:
        raise UserError([f"--preset: {line}" for line in messages(error, Generator)]) from None
    found = describe(preset, args.classes, args.patch_size, args.factor, args.latent_channels)
    print(json.dumps(found, indent=2))


@stage(
    "generator train",
    "GeneratorOptions",
    SPLIT,
    PATCHES,
    optional(
        "--first-stage",
        "DIR",
        "autoencoder folder (without: pixels)",
        lambda results, split: first(results.autoencoder(split)),
    ),
    optional(
        "--latents",
        "DIR",
        "latents {slide}.h5 of that autoencoder",
        lambda results, split: first(results.cached_latents(split)),
    ),
    optional(
        "--style-bank",
        "DIR",
        "style embeddings {slide}.h5 of a frozen style encoder",
        lambda results, generator, split: first(results.frozen_embeddings(generator, split)),
    ),
    optional(
        "--layouts",
        "DIR",
        "predicted layouts {slide}.h5 of the unannotated patches",
        lambda results, generator, split: first(results.unannotated_layouts(generator, split)),
    ),
    work("generator"),
    PROCESSES,
    out(
        "DIR",
        "StyleLayoutPipeline folder, with history.csv and provenance.json",
        lambda results, generator, split: results.generator(generator, split),
    ),
    names=["generator", "split"],
)
def train_generator(options: "GeneratorOptions", args: argparse.Namespace) -> None:
    """Train a generator."""
    from stedm.diffusion.training import train_generator

    train_generator(
        options,
        args.split,
        args.patches,
        work=args.work,
        out=args.out,
        first_stage=args.first_stage,
        latents=args.latents,
        style_bank=args.style_bank,
        layouts=args.layouts,
    )


@stage(
    "generator predict-layouts",
    "PredictedLayoutsOptions",
    argument(
        "--network",
        "DIR",
        "segmentation network that predicts",
        lambda results, generator, split: results.labeller(generator, split),
    ),
    SPLIT,
    PATCHES,
    out(
        "DIR",
        "layouts {slide}.h5: (N, P, P) uint8, 255 where the network is unsure",
        lambda results, generator, split: results.predicted_layouts(generator, split),
    ),
    names=["generator", "split"],
)
def predict_layouts(options: "PredictedLayoutsOptions", args: argparse.Namespace) -> None:
    """Predict layouts of the unannotated patches, for a generator to learn from."""
    from functools import partial

    from stedm.device import within_memory
    from stedm.models import check_made_for
    from stedm.segmentation.network import load_network, predict_probabilities
    from stedm.synthesis.pseudo_labels import predict_layouts
    from stedm.training import weights_fingerprint

    check_made_for(args.network, split=args.split.stem, arm_name=options.layouts.arm)
    network = load_network(args.network, options.device)
    predict_layouts(
        options,
        args.split,
        args.patches,
        predict=within_memory(partial(predict_probabilities, network)),
        network=weights_fingerprint(network.unet),
        out=args.out,
    )


@stage(
    "style-bank embed",
    "StyleBankOptions",
    optional(
        "--generator",
        "DIR",
        "generator whose style encoder to use (without: the frozen one of the options)",
        lambda results, generator, split: first(results.embedding_generator(generator, split)),
    ),
    SPLIT,
    PATCHES,
    out(
        "DIR",
        "style embeddings {slide}.h5: (N, D) float32",
        lambda results, generator, split: results.style_bank(generator, split),
    ),
    names=["generator", "split"],
)
def embed_patches(options: "StyleBankOptions", args: argparse.Namespace) -> None:
    """Embed the styles of the training patients' patches."""
    from stedm.style.bank import embed_patches

    embed_patches(options, args.split, args.patches, out=args.out, generator=args.generator)
