"""`stedm synthesis`: labelled images from a source."""

import argparse
from functools import partial
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, PLAN, SHARDS, SPLIT, argument, command, first, optional, out, stage

if TYPE_CHECKING:
    from stedm.config import PlanOptions, ShardOptions
    from stedm.synthesis.shard import Source


@stage(
    "synthesis plan",
    "PlanOptions",
    SPLIT,
    PATCHES,
    out("CSV", "plan, one row per image", lambda results, source, split: results.plan(source, split)),
    names=["source", "split"],
)
def plan_images(options: "PlanOptions", args: argparse.Namespace) -> None:
    """Plan the images to make: layout, its affine transform, style set and seed of each."""
    from stedm.synthesis.plan import plan_images

    plan_images(options, args.split, args.patches, out=args.out)


@command(
    "synthesis grid",
    PLAN,
    out(
        "CSV",
        "plan of a few layouts in a few styles, each with each",
        lambda results, source, split: results.grid_plan(source, split),
    ),
    names=["source", "split"],
)
def plan_grid(args: argparse.Namespace) -> None:
    """Plan a grid: a few layouts in a few styles, each with each."""
    from stedm.synthesis.plan import plan_grid

    plan_grid(args.plan, out=args.out)


@stage(
    "synthesis generate",
    "ShardOptions",
    PLAN,
    argument("--shard", "K", "which shard of the plan, from 0", lambda results, shard: int(shard), type=int),
    PATCHES,
    optional(
        "--generator",
        "DIR",
        "generator (StyleLayoutPipeline folder), for a source of that kind",
        lambda results, source, split: first(results.generator_of(source, split)),
    ),
    optional(
        "--style-bank",
        "DIR",
        "style embeddings {slide}.h5 (without: a generator without style)",
        lambda results, source, split: first(results.style_bank_of(source, split)),
    ),
    optional(
        "--network",
        "DIR",
        "segmentation network that gives pseudo-labels, or looks whether a generator's images agree with their layouts",
        lambda results, source, split: first(results.network_of(source, split)),
    ),
    out(
        "H5",
        "images (N, P, P, 3), their layouts and numbers",
        lambda results, source, split, shard: results.shard(source, split, shard),
    ),
    names=["source", "split", "shard"],
)
def generate_shard(options: "ShardOptions", args: argparse.Namespace) -> None:
    """Make the images of one shard of a plan."""
    from stedm.synthesis.shard import make_shard

    models = [folder for folder in (args.generator, args.network) if folder is not None]
    source = source_of(options, args)
    make_shard(options, source, args.plan, args.shard, args.patches, out=args.out, models=models)


def source_of(options: "ShardOptions", args: argparse.Namespace) -> "Source":
    """The function that makes the images, with what it needs besides rows of the plan and patches."""
    source = options.source
    match source.kind:  # each imports what it needs: segmentation networks and generators take seconds
        case "recolour":
            from stedm.synthesis.recolour import recolour

            return recolour
        case "pseudo_labels":
            from stedm.evaluation.layout import network_predictor
            from stedm.synthesis.pseudo_labels import pseudo_labels

            thresholds = source.thresholds(options.class_names)
            predict = network_predictor(args.network, options.device)
            return partial(pseudo_labels, predict=predict, thresholds=thresholds)
        case "repaint":
            from stedm.evaluation.layout import network_predictor
            from stedm.synthesis.repaint import repaint

            settings = {name: getattr(source, name) for name in ("confidence", "strength", "layout_guidance_scale")}
            images_of = {"generator": args.generator, "style_bank": args.style_bank, "options": options.device}
            return partial(repaint, **images_of, **settings, predict=network_predictor(args.network, options.device))
        case "generator":
            from stedm.evaluation.layout import network_agreement
            from stedm.synthesis.generator import generate

            agreement = network_agreement(args.network, options.device) if args.network else None
            images_of = {"generator": args.generator, "style_bank": args.style_bank, "strength": source.strength}
            return partial(generate, **images_of, chosen=source.filter, agreement=agreement, options=options.device)


@command(
    "synthesis manifest",
    PLAN,
    SHARDS,
    out(
        "CSV",
        "the plan with what became of each image: kept, redraws, seed",
        lambda results, source, split: results.manifest(source, split),
    ),
    names=["source", "split"],
)
def write_manifest(args: argparse.Namespace) -> None:
    """Put together what was planned and what was generated."""
    from stedm.synthesis.shard import write_manifest

    write_manifest(args.plan, args.shards, out=args.out)
