"""`stedm config`."""

import argparse
from pathlib import Path

from stedm.cli.command import argument, command, flag


@command("config check", argument("config", "YAML", "configuration file"))
def check_config(args: argparse.Namespace) -> None:
    """Check a configuration and its sample sheet, and say what the study holds and costs."""
    from stedm.config import load
    from stedm.errors import UserError
    from stedm.sheet import read_study_sheet

    study = load(args.config)
    slides = read_study_sheet(study, fetched=Path)  # files in a storage are taken to be there
    from stedm import forecast  # what is above is said without waiting for torch
    from stedm.cost import this_machine

    counts, problems = forecast.splits_of(study, slides)
    problems += forecast.missing_encoders(study) + forecast.missing_weights(study)
    if problems:
        raise UserError([f"{args.config}, {problem}" for problem in problems])
    lines = forecast.summary(study, slides, this_machine(study.device.precision), counts)
    patients = {slide.patient for slide in slides}
    print(
        f"{args.config}: study {study.study}, {len(slides)} slides of {len(patients)} patients,"
        f" generators {', '.join(study.generators) or 'none'}, arms {', '.join(study.arms)}"
    )
    for line in lines:
        print(f"  {line}")


@command("config schema", flag("--markdown", "the keys as a page of the documentation"))
def print_schema(args: argparse.Namespace) -> None:
    """Print the JSON schema of a study file, with a description for each key."""
    from stedm.config.schema import reference, schema_text

    print(reference() if args.markdown else schema_text(), end="")
