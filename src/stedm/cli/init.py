"""`stedm init`."""

import argparse

from stedm.cli.command import Argument, argument, command


@command(
    "init",
    argument("folder", "FOLDER", "of the new study, whose name is the study's"),
    argument("--slides", "DIR", "folder of the slides, with the folders in it", required=True),
    argument("--annotations", "DIR", "files named after their slides (those beside the slides)", needed=False),
    Argument(
        "--patient-from",
        {"metavar": "RULE", "help": "regular expression whose first group is the patient, or table.csv:column"},
        needed=False,
    ),
    Argument(
        "--mpp", {"metavar": "X", "type": float, "help": "µm per pixel of the slides that do not say it"}, needed=False
    ),
    Argument(
        "--hours",
        {"metavar": "H", "type": float, "default": 12.0, "help": "of all trainings together (12)"},
        needed=False,
    ),
    Argument(
        "--encoder-weights",
        {
            "metavar": "WHICH",
            "default": "imagenet",
            "help": "imagenet (a download), a folder in timm's format, or none",
        },
        needed=False,
    ),
)
def init_study(args: argparse.Namespace) -> None:
    """Write the sample sheet and a short study for your slides, and say why it is what it is."""
    from stedm.init.study import init_study

    for line in init_study(
        args.folder,
        args.slides,
        args.annotations,
        patient_from=args.patient_from,
        mpp=args.mpp,
        hours=args.hours,
        encoder_weights=args.encoder_weights,
    ):
        print(line)
