"""`stedm statistics`: tables that compare arms and sources of images."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import files, out, stage

if TYPE_CHECKING:
    from stedm.config import ComparisonOptions, QualitySummaryOptions


@stage(
    "statistics arms",
    "ComparisonOptions",
    files("--scores", "DIR", "of `stedm evaluation score`", lambda results: results.all_scores()),
    out(
        "DIR",
        "scores.csv, patients.csv, arms.csv and comparisons.csv",
        lambda results: results.table("arms").parent,
        shared=True,
    ),
)
def compare_arms(options: "ComparisonOptions", args: argparse.Namespace) -> None:
    """Compare the arms by patient."""
    from stedm.evaluation.statistics import compare_arms

    compare_arms(options, args.scores, out=args.out)


@stage(
    "statistics images",
    "QualitySummaryOptions",
    files("--quality", "DIR", "of `stedm evaluation images`", lambda results: results.all_image_quality()),
    out(
        "CSV",
        "source, annotated_patients, metric, images_of, value, low, high, deviation, images, features",
        lambda results: results.table("image_quality"),
    ),
)
def summarise_quality(options: "QualitySummaryOptions", args: argparse.Namespace) -> None:
    """Sum up the quality of synthetic images by source."""
    from stedm.evaluation.quality import summarise_quality

    summarise_quality(options, args.quality, out=args.out)
