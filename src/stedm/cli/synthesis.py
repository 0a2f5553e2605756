"""`stedm synthesis`: labelled images from a generator."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, PLAN, SHARDS, SPLIT, argument, command, first, optional, out, stage

if TYPE_CHECKING:
    from stedm.config import PlanOptions, ShardOptions

GENERATOR = argument(
    "--generator",
    "DIR",
    "generator (StyleLayoutPipeline folder)",
    lambda results, generator, split: results.generator(generator, split),
)
STYLE_BANK = optional(
    "--style-bank",
    "DIR",
    "style embeddings {slide}.h5 (without: a generator without style)",
    lambda results, generator, split: first(results.style_embeddings(generator, split)),
)


@stage(
    "synthesis plan",
    "PlanOptions",
    SPLIT,
    PATCHES,
    out("CSV", "plan, one row per image", lambda results, generator, split: results.plan(generator, split)),
    names=["generator", "split"],
)
def plan_images(options: "PlanOptions", args: argparse.Namespace) -> None:
    """Plan the images to generate: layout, its affine transform, style set and seed of each."""
    from stedm.synthesis import plan_images

    plan_images(options, args.split, args.patches, out=args.out)


@command(
    "synthesis grid",
    PLAN,
    out(
        "CSV",
        "plan of a few layouts in a few styles, each with each",
        lambda results, generator, split: results.grid_plan(generator, split),
    ),
    names=["generator", "split"],
)
def plan_grid(args: argparse.Namespace) -> None:
    """Plan a grid: a few layouts in a few styles, each with each."""
    from stedm.synthesis import plan_grid

    plan_grid(args.plan, out=args.out)


@stage(
    "synthesis generate",
    "ShardOptions",
    GENERATOR,
    PLAN,
    argument("--shard", "K", "which shard of the plan, from 0", lambda results, shard: int(shard), type=int),
    PATCHES,
    STYLE_BANK,
    optional(
        "--filter-network",
        "DIR",
        "segmentation network that filters (without: all images are kept)",
        lambda results, split: first(results.filter_network(split)),
    ),
    out(
        "H5",
        "generated images (N, P, P, 3), their layouts and numbers",
        lambda results, generator, split, shard: results.shard(generator, split, shard),
    ),
    names=["generator", "split", "shard"],
)
def generate_shard(options: "ShardOptions", args: argparse.Namespace) -> None:
    """Generate one shard of a plan."""
    from stedm.synthesis import generate_shard

    agreement = None
    if args.filter_network:
        from stedm.evaluation.layout import network_agreement

        agreement = network_agreement(args.filter_network)
    generate_shard(
        options,
        args.generator,
        args.plan,
        args.shard,
        args.patches,
        out=args.out,
        style_bank=args.style_bank,
        agreement=agreement,
    )


@command(
    "synthesis manifest",
    PLAN,
    SHARDS,
    out(
        "CSV",
        "the plan with what became of each image: kept, redraws, seed",
        lambda results, generator, split: results.manifest(generator, split),
    ),
    names=["generator", "split"],
)
def write_manifest(args: argparse.Namespace) -> None:
    """Put together what was planned and what was generated."""
    from stedm.synthesis import write_manifest

    write_manifest(args.plan, args.shards, out=args.out)
