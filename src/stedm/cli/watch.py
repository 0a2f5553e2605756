"""`stedm watch`."""

import argparse
import contextlib

from stedm.cli.command import argument, command, flag


@command(
    "watch",
    argument("results", "DIR", "results of a study, such as results/demo"),
    argument("--every", "SECONDS", "between two looks (2)", needed=False, type=float, default=2.0),
    flag("--once", "look once, and say it in lines"),
)
def watch(args: argparse.Namespace) -> None:
    """Show the trainings of a study that are running: loss, rate, device and time left."""
    from stedm.errors import UserError
    from stedm.progress import watch

    if not args.results.is_dir():
        raise UserError(f"{args.results}: there is no such folder; name the results of a study, such as results/demo")
    with contextlib.suppress(KeyboardInterrupt):
        watch(args.results, args.every, args.once)
