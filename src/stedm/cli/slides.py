"""`stedm check`, `stedm patches` and `stedm splits`: from slides to patients with roles."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import PATCHES, SHEET, SLIDE, argument, optional, out, read_row, stage

if TYPE_CHECKING:
    from stedm.config import CheckOptions, PatchesOptions, SplitOptions


@stage("check", "CheckOptions", SHEET, out("CSV", "table, one row per slide", lambda results: results.check))
def check(options: "CheckOptions", args: argparse.Namespace) -> None:
    """Open every slide and annotation, and report all problems at once."""
    from stedm.sheet import slides_by_name
    from stedm.slides.check import check_slides

    check_slides(options, list(slides_by_name(args.sheet).values()), out=args.out)


@stage(
    "patches extract",
    "PatchesOptions",
    SLIDE,
    out(
        "H5",
        "patch file: imgs (N, P, P, 3) and labels (N, P, P) uint8, coords (N, 2) level-0 x, y",
        lambda results, slide: results.patch_file(slide),
    ),
    argument(
        "--overview",
        "PNG",
        "thumbnail with tissue outline, grid and annotation",
        lambda results, slide: results.overview(slide),
    ),
    argument("--threads", "N", "that decode; the file is the same for any", needed=False, type=int, default=1),
    names=["slide"],
)
def extract_patches(options: "PatchesOptions", args: argparse.Namespace) -> None:
    """Cut one slide into patches."""
    from stedm.slides.patches import extract_patches

    extract_patches(options, read_row(args.slide), out=args.out, overview=args.overview, threads=args.threads)


@stage(
    "splits make",
    "SplitOptions",
    SHEET,
    PATCHES,
    optional(
        "--check",
        "CSV",
        "table of `stedm check`; slides that are not ok there are left out",
        lambda results: results.check,
    ),
    out("CSV", "roles: slide, patient, group, role, labelled", lambda results, split: results.split(split)),
    names=["split"],
)
def make_split(options: "SplitOptions", args: argparse.Namespace) -> None:
    """Give every patient a role."""
    from stedm.splits import make_split

    make_split(options, args.sheet, args.patches, out=args.out, check=args.check)
