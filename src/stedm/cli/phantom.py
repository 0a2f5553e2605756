"""`stedm phantom`."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import SLIDE, read_row, stage

if TYPE_CHECKING:
    from stedm.config import PhantomOptions


@stage("phantom render", "PhantomOptions", SLIDE, names=["slide"])
def render_phantom(options: "PhantomOptions", args: argparse.Namespace) -> None:
    """Render a phantom slide and its annotation where the sheet says."""
    from stedm.phantom.files import render_phantom

    render_phantom(options, read_row(args.slide))
