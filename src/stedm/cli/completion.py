"""`stedm completion`."""

import argparse

from stedm.cli.command import argument, command


@command(
    "completion",
    argument("shell", "SHELL", "bash, zsh or tcsh", type=str, choices=["bash", "zsh", "tcsh"]),
)
def print_completion(args: argparse.Namespace) -> None:
    """Print a script with which a shell completes commands, arguments and files."""
    import shtab

    from stedm.cli import build_parser

    print(shtab.complete(build_parser(), args.shell))
