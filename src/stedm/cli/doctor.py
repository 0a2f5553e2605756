"""`stedm doctor`."""

import argparse
from pathlib import Path

from stedm.cli.command import Argument, command


@command(
    "doctor",
    Argument(
        "--folder",
        {"metavar": "DIR", "type": Path, "default": Path(), "help": "where studies will run (this one)"},
        needed=False,
    ),
)
def doctor(args: argparse.Namespace) -> None:
    """Look at what studies need here: versions, GPU, OpenSlide, SLURM, disk, permissions; each OK or with a remedy."""
    from stedm.doctor import examine
    from stedm.errors import UserError

    findings = []
    for finding in examine(args.folder):  # each as soon as it is known: torch takes its time
        print(finding, flush=True)
        findings.append(finding)
    wrong = [finding.what for finding in findings if finding.remedy]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(findings)} are not in order: {', '.join(wrong)}")
