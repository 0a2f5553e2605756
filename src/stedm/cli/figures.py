"""`stedm figures`: figures from the tables."""

import argparse
from typing import TYPE_CHECKING

from stedm.cli.command import (
    MANIFEST,
    PATCHES,
    SHARDS,
    SHEET,
    Argument,
    argument,
    command,
    files,
    first,
    optional,
    out,
    stage,
)

if TYPE_CHECKING:
    from stedm.config import ClassesOptions, HistoriesOptions, MapsOptions, SourcesOptions


def figure(name: str) -> Argument:
    return out("PNG", "figure; a PDF is written next to it", lambda results: results.figure(name))


def figure_of_source(name: str) -> Argument:
    return out(
        "PNG",
        "figure; a PDF is written next to it",
        lambda results, source: results.figure(f"{name}-{source}"),
    )


PATIENTS = argument(
    "--patients",
    "CSV",
    "table patients.csv: annotated_patients, arm, patient, score",
    lambda results: results.table("patients"),
)
ARMS = argument("--arms", "CSV", "table arms.csv", lambda results: results.table("arms"))

PSEUDONYMS = optional(
    "--pseudonyms",
    "CSV",
    "key of the pseudonyms to show (without: names as in the sheet)",
    lambda results: first(results.shown_pseudonyms()),
)


@command(
    "figures pseudonyms",
    SHEET,
    out("CSV", "key: slide, patient, slide_pseudonym, patient_pseudonym", lambda results: results.pseudonyms),
)
def write_pseudonyms(args: argparse.Namespace) -> None:
    """Pseudonyms of patients and slides, which figures show."""
    from stedm.figures.names import write_pseudonyms
    from stedm.sheet import slides_by_name

    write_pseudonyms(list(slides_by_name(args.sheet).values()), out=args.out)


@command("figures scores", PATIENTS, ARMS, figure("scores"))
def plot_scores(args: argparse.Namespace) -> None:
    """Each patient's score by arm."""
    from stedm.figures.scores import plot_scores

    plot_scores(args.patients, args.arms, out=args.out)


@command("figures differences", PATIENTS, ARMS, figure("differences"))
def plot_differences(args: argparse.Namespace) -> None:
    """Differences to the reference arm, paired by patient."""
    from stedm.figures.differences import plot_differences

    plot_differences(args.patients, args.arms, out=args.out)


@stage(
    "figures maps",
    "MapsOptions",
    SHEET,
    argument("--tables", "DIR", "scores.csv and patients.csv", lambda results: results.table("scores").parent),
    argument(
        "--evaluation",
        "DIR",
        "scores {arm}/{split}/seed{seed}/: confusion.csv and maps",
        lambda results: results.root / "evaluation",
    ),
    PSEUDONYMS,
    figure("maps"),
)
def plot_maps(options: "MapsOptions", args: argparse.Namespace) -> None:
    """Test slides with their annotation and the predictions of networks."""
    from stedm.figures.maps import plot_maps

    plot_maps(options, args.sheet, args.tables, args.evaluation, out=args.out, pseudonyms=args.pseudonyms)


@stage(
    "figures examples",
    "ClassesOptions",
    MANIFEST,
    SHARDS,
    PATCHES,
    PSEUDONYMS,
    figure_of_source("examples"),
    names=["source", "split"],
)
def plot_examples(options: "ClassesOptions", args: argparse.Namespace) -> None:
    """Generated images with what they were made from."""
    from stedm.figures.examples import plot_examples

    plot_examples(options, args.manifest, args.shards, args.patches, out=args.out, pseudonyms=args.pseudonyms)


@stage(
    "figures sources",
    "SourcesOptions",
    files(
        "--manifests",
        "CSV",
        "manifest of each source, in their order",
        lambda results, split: results.planned_manifests(split),
    ),
    files("--shards", "H5", "shards of all of them", lambda results, split: results.planned_shards(split)),
    PATCHES,
    PSEUDONYMS,
    figure("sources"),
    names=["split"],
)
def plot_sources(options: "SourcesOptions", args: argparse.Namespace) -> None:
    """What each source makes of the same layouts and styles."""
    from stedm.figures.sources import plot_sources

    plot_sources(options, args.manifests, args.shards, args.patches, out=args.out, pseudonyms=args.pseudonyms)


@command(
    "figures closest",
    argument(
        "--quality",
        "DIR",
        "of `stedm evaluation images`",
        lambda results, source, split: results.image_quality(source, split),
    ),
    SHARDS,
    PATCHES,
    PSEUDONYMS,
    figure_of_source("closest"),
    names=["source", "split"],
)
def plot_closest(args: argparse.Namespace) -> None:
    """Generated images next to the training patches that they are closest to."""
    from stedm.figures.closest import plot_closest

    plot_closest(args.quality, args.shards, args.patches, out=args.out, pseudonyms=args.pseudonyms)


@stage(
    "figures grid",
    "ClassesOptions",
    argument(
        "--manifest",
        "CSV",
        "of `stedm synthesis grid`",
        lambda results, source, split: results.grid_plan(source, split),
    ),
    argument(
        "--images",
        "H5",
        "the images generated from it",
        lambda results, source, split: results.grid_images(source, split),
    ),
    PATCHES,
    PSEUDONYMS,
    figure_of_source("grid"),
    names=["source", "split"],
)
def plot_grid(options: "ClassesOptions", args: argparse.Namespace) -> None:
    """Layouts and styles, each with each, and the image generated from both."""
    from stedm.figures.grid import plot_grid

    plot_grid(options, args.manifest, args.images, args.patches, out=args.out, pseudonyms=args.pseudonyms)


@command(
    "figures contact-sheet",
    SHEET,
    PATCHES,
    argument(
        "--overviews", "DIR", "pictures {slide}.png of `stedm patches extract`", lambda results: results.overviews
    ),
    PSEUDONYMS,
    figure("contact_sheet"),
)
def plot_contact_sheet(args: argparse.Namespace) -> None:
    """All slides at a glance, with name, patient, group, number of patches and status."""
    from stedm.figures.contact_sheet import plot_contact_sheet

    plot_contact_sheet(args.sheet, args.patches, args.overviews, out=args.out, pseudonyms=args.pseudonyms)


@stage(
    "figures histories",
    "HistoriesOptions",
    files("--generators", "DIR", "generators, with history.csv", lambda results: results.all_generators(), nargs="*"),
    files("--networks", "DIR", "segmentation networks, with history.csv", lambda results: results.all_networks()),
    figure("histories"),
)
def plot_histories(options: "HistoriesOptions", args: argparse.Namespace) -> None:
    """The loss of each training."""
    from stedm.figures.history import plot_histories

    plot_histories(options, args.generators, args.networks, out=args.out)
