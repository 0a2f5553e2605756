"""The `stedm` command: one subcommand for each stage, which the rules of the workflow call and a person can type.

Exit status: 0; 1 for a defect of ours, with its traceback; 2 for what the user can fix, one message a line; 75 when
work was interrupted and running again resumes it. Commands import what they need when they run, so that help is quick.
"""

import argparse
import errno
import logging
import os
import select
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

from stedm import __version__
from stedm.cli import (
    completion,
    config,
    doctor,
    evaluation,
    figures,
    first_stage,
    generator,
    init,
    phantom,
    push,
    report,
    segmentation,
    sheet,
    slides,
    statistics,
    synthesis,
    watch,
)
from stedm.cli.command import COMMANDS, GROUPS
from stedm.errors import Interrupted, UserError, merged

__all__ = [
    "COMMANDS",
    "GROUPS",
    "build_parser",
    "completion",
    "config",
    "doctor",
    "evaluation",
    "figures",
    "first_stage",
    "generator",
    "init",
    "main",
    "phantom",
    "push",
    "report",
    "segmentation",
    "sheet",
    "slides",
    "statistics",
    "synthesis",
    "watch",
]

USER_ERROR = 2
INTERRUPTED = 75  # EX_TEMPFAIL
PIPE_CLOSED = 141  # 128 + SIGPIPE, as shells say it


@cache
def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stedm",
        description="Style-extracting diffusion models for histopathology segmentation, stage by stage."
        " The whole study runs with Snakemake; these are its steps.",
    )
    parser.add_argument("--version", action="version", version=f"stedm {__version__}")
    top = parser.add_subparsers(title="stages, in the order of a study", metavar="STAGE", required=True)
    groups: dict[str, Any] = {}
    for command in sorted(COMMANDS, key=lambda command: list(GROUPS).index(command.words[0])):
        group, *rest = command.words
        holder, name = top, group
        if rest:
            if group not in groups:
                help = GROUPS[group] or ""
                added = top.add_parser(group, help=help, description=help.capitalize() + ".")
                groups[group] = added.add_subparsers(title="commands", metavar="COMMAND", required=True)
            holder, name = groups[group], rest[0]
        summary = command.summary
        short = (summary[0].lower() + summary.rstrip(".")[1:]).replace("%", "%%")
        command.add_to(holder.add_parser(name, help=short, description=summary))
    return parser


def explain_failure(error: OSError) -> str:
    """What an error of the system means to the one who called the command."""
    where = "" if error.filename is None else f"{error.filename}: "
    what = error.strerror or str(error)  # those of h5py name the file in the text, if at all
    if any(os.strerror(number) in what for number in (errno.ENOSPC, errno.EDQUOT)):
        return f"{where}the disk is full ({what}); free some space and run again"
    return f"{where}{what}; is the path right, and the file whole?"


def nobody_reads() -> bool:
    """Is standard output a pipe whose reader has seen enough, as in `stedm … | head`?"""
    output = select.poll()
    output.register(1, 0)  # errors are reported without being asked for
    return bool(output.poll(0))


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if getattr(args, "processes", 1) > 1 and "WORLD_SIZE" not in os.environ:
        from stedm.processes import launch

        launch(args.processes, sys.argv[1:] if argv is None else argv)
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING  # one process speaks for all
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    try:
        args.command(args)
        sys.stdout.flush()
    except UserError as error:
        print("\n".join(merged(error.messages)), file=sys.stderr)
        return USER_ERROR
    except Interrupted as error:
        print(error, file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        print(f"out of memory ({error}); is an input damaged? If not, give it more", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():  # another pipe may break too
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains as it flushes at its end
            return PIPE_CLOSED
        print(explain_failure(error), file=sys.stderr)
        return USER_ERROR
    return 0
