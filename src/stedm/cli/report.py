"""`stedm report`: the answer of a study on one page."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import argument, files, first, optional, out, stage
from stedm.cli.figures import PSEUDONYMS

if TYPE_CHECKING:
    from stedm.config import ReportOptions


@stage(
    "report",
    "ReportOptions",
    argument("--check", "CSV", "of `stedm check`", lambda results: results.check),
    files("--splits", "CSV", "of `stedm splits make`", lambda results: results.all_splits()),
    argument(
        "--tables",
        "DIR",
        "scores.csv, patients.csv, arms.csv and comparisons.csv",
        lambda results: results.table("arms").parent,
    ),
    optional(
        "--quality",
        "CSV",
        "table image_quality.csv, of a study with synthetic images",
        lambda results: first(results.quality_summary()),
    ),
    files("--figures", "PNG", "in the order of the page", lambda results: results.figures()),
    PSEUDONYMS,
    out("HTML", "page; the same as text, summary.md, is written next to it", lambda results: results.report),
)
def write_report(options: "ReportOptions", args: argparse.Namespace) -> None:
    """The answer of a study on one page."""
    from stedm.report.study import write_report

    write_report(
        options,
        args.check,
        args.splits,
        args.tables,
        args.figures,
        out=args.out,
        quality=args.quality,
        pseudonyms=args.pseudonyms,
    )
