"""`stedm evaluation`: scores of networks and quality of generated images."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import MANIFEST, PATCHES, SHARDS, SHEET, SPLIT, argument, first, optional, out, stage

if TYPE_CHECKING:
    from stedm.config import ImageEvaluationOptions, ScoreOptions


@stage(
    "evaluation score",
    "ScoreOptions",
    argument(
        "--model",
        "DIR",
        "segmentation network (smp folder)",
        lambda results, arm, split, seed: results.applied_network(arm, split, seed),
    ),
    SPLIT,
    SHEET,
    out(
        "DIR",
        "confusion.csv (run, slide, patient, role, true, predicted, pixels) and maps/{slide}.png",
        lambda results, arm, split, seed: results.scores(arm, split, seed),
    ),
    names=["arm", "split", "seed"],
)
def score_slides(options: "ScoreOptions", args: argparse.Namespace) -> None:
    """Predict the annotated regions of the test slides and count confusions."""
    from stedm.evaluation.scoring import score_slides

    score_slides(options, args.model, args.split, args.sheet, out=args.out)


@stage(
    "evaluation images",
    "ImageEvaluationOptions",
    MANIFEST,
    SHARDS,
    SPLIT,
    PATCHES,
    optional(
        "--evaluator",
        "DIR",
        "segmentation network that recognises layouts (without: they are not evaluated)",
        lambda results, split: first(results.evaluator(split)),
    ),
    optional(
        "--structure-network",
        "DIR",
        "another segmentation network, in whose features structure is compared unless the options name other features"
        " (without: structure is not evaluated)",
        lambda results, split: first(results.structure_network(split)),
    ),
    out(
        "DIR",
        "images.csv (one row per image) and sets.csv (all images together)",
        lambda results, source, split: results.image_quality(source, split),
    ),
    names=["source", "split"],
)
def evaluate_images(options: "ImageEvaluationOptions", args: argparse.Namespace) -> None:
    """Evaluate generated images: layout, style, diversity, copies of training patches, distance to real patches."""
    from stedm.evaluation.quality import evaluate_images

    evaluate_images(
        options,
        args.manifest,
        args.shards,
        args.split,
        args.patches,
        out=args.out,
        evaluator=args.evaluator,
        structure_network=args.structure_network,
    )
