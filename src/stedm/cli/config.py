"""`stedm config`."""

import argparse

from stedm.cli.command import argument, command


@command("config check", argument("config", "YAML", "configuration file"))
def check_config(args: argparse.Namespace) -> None:
    """Check a configuration and its sample sheet, and say what the study holds."""
    from stedm.config import load
    from stedm.sheet import read_study_sheet

    study = load(args.config)
    slides = read_study_sheet(study)
    patients = {slide.patient for slide in slides}
    print(
        f"{args.config}: study {study.study}, {len(slides)} slides of {len(patients)} patients,"
        f" generators {', '.join(study.generators) or 'none'}, arms {', '.join(study.arms)}"
    )
