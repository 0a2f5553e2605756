"""The `stedm` command: one subcommand for each stage, which the rules of the workflow call and a person can paste.

Exit status: 0; 1 for a defect of ours, with its traceback; 2 for what the user can mend, one message a line; 75 when
work was interrupted and running again resumes it. Commands import what they need when they run, so that help is quick.
"""

import argparse
import errno
import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stedm import __version__
from stedm.errors import Interrupted, UserError

if TYPE_CHECKING:
    from stedm.datasets.found import Found
    from stedm.sheet import Slide

USER_ERROR = 2
INTERRUPTED = 75  # EX_TEMPFAIL
PIPE_CLOSED = 141  # 128 + SIGPIPE, as shells say it

Run = Callable[[argparse.Namespace], None]
Argument = tuple[str, dict[str, Any]]

GROUPS = {
    "config": "the configuration of a study",
    "sheet": "sample sheets of published data sets",
    "demo": "phantom slides",
    "patches": "slides to patches",
    "splits": "who is annotated, unannotated, for validation or for the test",
    "first-stage": "the autoencoder",
    "generator": "the diffusion model",
    "diffusion": "presets of the diffusion model",
    "style-bank": "cached style embeddings",
    "synthesis": "drawing labelled images",
    "segmentation": "the segmentation network",
    "evaluation": "scores of networks and of drawn images",
    "statistics": "tables that compare arms and generators",
    "figures": "figures from the tables",
}
COMMANDS: list[tuple[list[str], Run, Sequence[Argument]]] = []


def argument(flag: str, metavar: str, help: str, **more: Any) -> Argument:
    required = {"required": True} if flag.startswith("-") else {}
    return flag, {"metavar": metavar, "help": help, "type": Path} | required | more


def optional(flag: str, metavar: str, help: str) -> Argument:
    """An input that only some studies have: the flag may be left out, or stand without a value."""
    return argument(flag, metavar, help, nargs="?", required=False)


def sections(names: str) -> Argument:
    return argument("--options", "JSON", f"object with these sections of a configuration: {names}", type=str)


def out(metavar: str, help: str) -> Argument:
    return argument("--out", metavar, help)


SHEET = argument("--sheet", "CSV", "slides: slide, patient, path, annotation, group, mpp, split (paths from here)")
SLIDE = argument("--slide", "JSON", "row of the sheet: slide, patient, path, annotation, group, mpp, split", type=str)
PATCHES = argument("--patches", "DIR", "patch files {slide}.h5")
SPLIT = argument("--split", "CSV", "roles: slide, patient, group, role, labelled")
SEED = argument("--seed", "N", "of everything random", type=int)
WORK = argument("--work", "DIR", "checkpoints; a stopped run goes on from there")
PROCESSES = argument("--processes", "N", "share each batch, one for each GPU (1)", type=int, default=1, required=False)
PLAN = argument("--plan", "CSV", "what to draw, one row an image")
MANIFEST = argument("--manifest", "CSV", "what was drawn, one row an image")
FOLDER = argument("--folder", "DIR", "the data set, downloaded and unpacked")
PARTIAL: Argument = ("--partial", {"action": "store_true", "help": "leave out what has not been downloaded"})
NEW_SHEET = out("CSV", "sample sheet; paths in it start from its own folder")
FLOWER_PARTS = ["train", "val", "test"]


def command(name: str, *arguments: Argument) -> Callable[[Run], Run]:
    """Make a function a subcommand; its docstring is the help."""

    def register(run: Run) -> Run:
        COMMANDS.append((name.split(), run, arguments))
        return run

    return register


@command("config check", argument("config", "YAML", "configuration file"))
def check_config(args: argparse.Namespace) -> None:
    """Check a configuration and its sample sheet, and say what the study holds."""
    from stedm.config import load
    from stedm.sheet import read_sheet

    study = load(args.config)
    slides = read_sheet(study.slides, made_here=study.demo is not None)
    patients = {slide.patient for slide in slides}
    print(
        f"{args.config}: study {study.study}, {len(slides)} slides of {len(patients)} patients,"
        f" generators {', '.join(study.generators) or 'none'}, arms {', '.join(study.arms)}"
    )


@command("sheet catch", FOLDER, PARTIAL, NEW_SHEET)
def sheet_catch(args: argparse.Namespace) -> None:
    """CATCH, canine cutaneous tumours: *.svs, CATCH.json, datasets.csv."""
    from stedm.datasets import catch

    write_new_sheet(args, catch.find(args.folder))


@command("sheet camelyon16", FOLDER, PARTIAL, NEW_SHEET)
def sheet_camelyon16(args: argparse.Namespace) -> None:
    """Camelyon16, lymph nodes: normal_*.tif, tumor_*.tif, test_*.tif, their *.xml, reference.csv."""
    from stedm.datasets import camelyon16

    write_new_sheet(args, camelyon16.find(args.folder, args.out.parent / "no_tumour.geojson"))


@command("sheet bcss", FOLDER, PARTIAL, NEW_SHEET)
def sheet_bcss(args: argparse.Namespace) -> None:
    """BCSS, breast cancer: rgbs_colorNormalized/*.png, masks/*.png."""
    from stedm.datasets import bcss

    write_new_sheet(args, bcss.find(args.folder))


@command("sheet monuseg", FOLDER, PARTIAL, NEW_SHEET)
def sheet_monuseg(args: argparse.Namespace) -> None:
    """MoNuSeg, nuclei: Tissue Images/*.tif, Annotations/*.xml, MoNuSegTestData/*."""
    from stedm.datasets import monuseg

    write_new_sheet(args, monuseg.find(args.folder))


@command("sheet qupath", FOLDER, PARTIAL, NEW_SHEET)
def sheet_qupath(args: argparse.Namespace) -> None:
    """A QuPath project: project.qpproj, and annotations exported as GeoJSON named after their images."""
    from stedm.datasets import qupath

    write_new_sheet(args, qupath.find(args.folder))


@command(
    "sheet flowers102",
    FOLDER,
    ("--parts", {"nargs": "+", "choices": FLOWER_PARTS, "default": FLOWER_PARTS, "help": "of setid.mat (all)"}),
    PARTIAL,
    NEW_SHEET,
)
def sheet_flowers102(args: argparse.Namespace) -> None:
    """Oxford Flowers 102: jpg/*.jpg, segmim/*.jpg, imagelabels.mat, setid.mat."""
    from stedm.datasets import flowers102

    write_new_sheet(args, flowers102.find(args.folder, args.out.parent / "masks", args.parts))


def write_new_sheet(args: argparse.Namespace, found: "Found") -> None:
    """Write what was found and say how much that is."""
    from collections import Counter

    from stedm.datasets.found import write_found

    write_found(found, args.folder, args.out, args.partial)
    roles = Counter(slide.split or "without a role" for slide in found.slides)
    patients = {slide.patient for slide in found.slides}
    print(
        f"{args.out}: {len(found.slides)} slides of {len(patients)} patients ("
        + ", ".join(f"{count} {role}" for role, count in sorted(roles.items()))
        + ")"
    )


@command("demo slide", sections("demo"), SLIDE)
def demo_slide(args: argparse.Namespace) -> None:
    """Draw a phantom slide and its annotation where the sheet says."""
    from stedm.config import Demo
    from stedm.demo import make_slide

    options = parse(args.options, demo=Demo).demo
    slide = read_row(args.slide)
    if slide.annotation is None:
        raise UserError(f"slide {slide.slide!r}: the column annotation is empty; name a .geojson file")
    make_slide(
        slide.slide,
        slide.patient,
        slide.group,
        slide.split != "annotated",
        options.size,
        options.mpp,
        options.seed,
        slide.path,
        slide.annotation,
    )


@command("check", sections("classes, annotations, patches, strict"), SHEET, out("CSV", "table, one row a slide"))
def check(args: argparse.Namespace) -> None:
    """Open every slide and annotation, and report all problems at once."""
    from stedm.config import Annotations, Patches, TissueClass
    from stedm.sheet import slides_by_name
    from stedm.slides.check import check_slides

    options = parse(args.options, classes=list[TissueClass], annotations=Annotations, patches=Patches, strict=bool)
    slides = list(slides_by_name(args.sheet).values())
    check_slides(slides, options.classes, options.annotations, options.patches, options.strict, args.out)


@command(
    "patches extract",
    sections("classes, annotations, patches"),
    SLIDE,
    out("H5", "patch file: imgs (N, P, P, 3) and labels (N, P, P) uint8, coords (N, 2) level-0 x, y"),
    argument("--overview", "PNG", "thumbnail with tissue outline, grid and annotation"),
    ("--threads", {"metavar": "N", "type": int, "default": 1, "help": "that decode; the file is the same for any"}),
)
def extract_patches(args: argparse.Namespace) -> None:
    """Cut one slide into patches."""
    from stedm.config import Annotations, Patches, TissueClass
    from stedm.slides.patches import extract_patches

    options = parse(args.options, classes=list[TissueClass], annotations=Annotations, patches=Patches)
    slide = read_row(args.slide)
    extract_patches(slide, options.classes, options.annotations, options.patches, args.out, args.overview, args.threads)


@command(
    "splits make",
    sections("splits"),
    SEED,
    SHEET,
    PATCHES,
    optional("--check", "CSV", "table of `stedm check`; slides that are not ok there are left out"),
    ("--strict", {"action": "store_true", "help": "a slide that would be left out is an error"}),
    argument("--annotated", "N", "how many patients count as annotated", type=int),
    argument("--repeat", "K", "which repeat, from 0", type=int),
    out("CSV", "roles: slide, patient, group, role, labelled"),
)
def make_split(args: argparse.Namespace) -> None:
    """Give every patient a role."""
    from stedm.config import Splits
    from stedm.splits import make_split

    options = parse(args.options, splits=Splits).splits
    make_split(
        options,
        args.seed,
        args.sheet,
        args.patches,
        args.annotated,
        args.repeat,
        args.out,
        check=args.check,
        strict=args.strict,
    )


@command(
    "first-stage train",
    sections("first_stage, device"),
    SPLIT,
    PATCHES,
    SEED,
    WORK,
    PROCESSES,
    out("DIR", "AutoencoderKL folder"),
)
def train_first_stage(args: argparse.Namespace) -> None:
    """Train the autoencoder on the training patients' patches."""
    from stedm.config import Device, TrainedFirstStage
    from stedm.first_stage import train_first_stage

    options = parse(args.options, first_stage=TrainedFirstStage, device=Device)
    train_first_stage(options.first_stage, options.device, args.split, args.patches, args.seed, args.work, args.out)


@command("first-stage prepare", sections("first_stage"), SPLIT, PATCHES, out("DIR", "autoencoder folder"))
def prepare_first_stage(args: argparse.Namespace) -> None:
    """Load a pretrained autoencoder and scale its latents to unit variance."""
    from stedm.config import PretrainedFirstStage
    from stedm.first_stage import prepare_first_stage

    options = parse(args.options, first_stage=PretrainedFirstStage).first_stage
    prepare_first_stage(options, args.split, args.patches, args.out)


@command(
    "first-stage encode",
    sections("device"),
    argument("--model", "DIR", "autoencoder folder"),
    SPLIT,
    PATCHES,
    out("DIR", "latents {slide}.h5: (N, 8, C, h, w) float16, in all flips and quarter turns"),
)
def encode_latents(args: argparse.Namespace) -> None:
    """Encode all training patches as latents, once."""
    from stedm.config import Device
    from stedm.first_stage import encode_latents

    encode_latents(args.model, parse(args.options, device=Device).device, args.split, args.patches, args.out)


@command(
    "diffusion describe",
    argument("--preset", "NAME", "paper, improved or demo", type=str),
    argument("--patch-size", "PX", "side of an image", type=int),
    argument("--factor", "N", "pixels along each side of a latent pixel (4)", type=int, default=4, required=False),
    argument("--latent-channels", "N", "channels of the latent (3)", type=int, default=3, required=False),
    argument("--classes", "N", "classes of the layout (2)", type=int, default=2, required=False),
)
def describe_preset(args: argparse.Namespace) -> None:
    """Print parameters, cost, and where style and layout enter, as JSON."""
    import json

    from stedm.config import Generator
    from stedm.diffusion.describe import describe

    preset = parse(json.dumps({"generator": {"preset": args.preset}}), generator=Generator).generator
    found = describe(preset, args.classes, args.patch_size, args.factor, args.latent_channels)
    print(json.dumps(found, indent=2))


@command(
    "generator train",
    sections("generator, first_stage, device, classes (names)"),
    SPLIT,
    PATCHES,
    optional("--first-stage", "DIR", "autoencoder folder (without: pixels)"),
    optional("--latents", "DIR", "latents {slide}.h5 of that autoencoder"),
    optional("--style-bank", "DIR", "style embeddings {slide}.h5 of a frozen style encoder"),
    SEED,
    WORK,
    PROCESSES,
    out("DIR", "StyleLayoutPipeline folder, with history.csv and provenance.json"),
)
def train_generator(args: argparse.Namespace) -> None:
    """Train a generator."""
    from stedm.config import Device, FirstStage, Generator
    from stedm.diffusion.training import train_generator

    options = parse(args.options, generator=Generator, first_stage=FirstStage, device=Device, classes=list[str])
    train_generator(
        options.generator,
        options.first_stage,
        len(options.classes),
        options.device,
        args.split,
        args.patches,
        args.seed,
        args.work,
        args.out,
        first_stage=args.first_stage,
        latents=args.latents,
        bank=args.style_bank,
    )


@command(
    "style-bank embed",
    sections("style"),
    optional("--generator", "DIR", "generator whose style encoder to use (without: the frozen one of the section)"),
    SPLIT,
    PATCHES,
    out("DIR", "style embeddings {slide}.h5: (N, D) float32"),
)
def embed_patches(args: argparse.Namespace) -> None:
    """Embed the styles of the training patients' patches."""
    from stedm.config import Style
    from stedm.style.bank import embed_patches

    style = parse(args.options, style=Style).style
    embed_patches(style, args.generator, args.split, args.patches, args.out)


@command("synthesis plan", sections("synthesis"), SPLIT, PATCHES, SEED, out("CSV", "plan, one row an image"))
def plan_images(args: argparse.Namespace) -> None:
    """Plan the images to draw: layout, its affine, style set and seed of each."""
    from stedm.config import Synthesis
    from stedm.synthesis import plan_images

    plan_images(parse(args.options, synthesis=Synthesis).synthesis, args.split, args.patches, args.seed, args.out)


@command(
    "synthesis grid",
    argument("--plan", "CSV", "of `stedm synthesis plan`; layouts and style sets are taken from it"),
    out("CSV", "plan of a few layouts in a few styles, each with each"),
)
def plan_grid(args: argparse.Namespace) -> None:
    """Plan a grid: a few layouts in a few styles, each with each."""
    from stedm.synthesis import plan_grid

    plan_grid(args.plan, args.out)


@command(
    "synthesis draw",
    sections("classes (names), filter"),
    argument("--generator", "DIR", "generator (StyleLayoutPipeline folder)"),
    PLAN,
    argument("--shard", "K", "which shard of the plan, from 0", type=int),
    PATCHES,
    optional("--style-bank", "DIR", "style embeddings {slide}.h5 (without: a generator without style)"),
    optional("--judge", "DIR", "segmentation network that filters (without: all images are kept)"),
    out("H5", "drawn images, in the form of a patch file"),
)
def draw_shard(args: argparse.Namespace) -> None:
    """Draw one shard of a plan."""
    from stedm.config import Filter
    from stedm.synthesis import draw_shard

    options = parse(args.options, classes=list[str], filter=Filter | None)
    agreement = None
    if args.judge:
        from stedm.evaluation.layout import network_agreement

        agreement = network_agreement(args.judge)
    draw_shard(
        args.generator,
        args.plan,
        args.shard,
        args.patches,
        args.style_bank,
        options.classes,
        args.out,
        options.filter,
        agreement,
    )


@command(
    "synthesis manifest",
    PLAN,
    argument("--shards", "H5", "drawn images", nargs="+"),
    out("CSV", "the plan with what became of each image: kept, redraws, seed"),
)
def write_manifest(args: argparse.Namespace) -> None:
    """Put together what was planned and what was drawn."""
    from stedm.synthesis import write_manifest

    write_manifest(args.plan, args.shards, args.out)


@command(
    "segmentation train",
    sections("segmentation, arm, classes (names), device"),
    SPLIT,
    PATCHES,
    argument("--synthetic", "H5", "shards of drawn images", nargs="*", default=[], required=False),
    SEED,
    WORK,
    PROCESSES,
    out("DIR", "smp folder, with history.csv and provenance.json"),
)
def train_segmentation(args: argparse.Namespace) -> None:
    """Train the segmentation network of one arm."""
    from stedm.config import Arm, Device, Segmentation
    from stedm.segmentation.training import train_network

    options = parse(args.options, segmentation=Segmentation, arm=Arm, classes=list[str], device=Device)
    train_network(
        options.segmentation,
        options.arm,
        options.classes,
        options.device,
        args.split,
        args.patches,
        args.synthetic,
        args.seed,
        args.work,
        args.out,
    )


@command(
    "predict",
    argument("slides", "SLIDE", "slide, or folder of slides", nargs="+"),
    argument("--model", "DIR", "segmentation network (smp folder)"),
    out("DIR", "for each slide a label map {slide}.tif, polygons {slide}.geojson, and {slide}.json when it is done"),
    argument("--overlap", "X", "of windows, as a share of their size (0.5)", type=float, default=0.5, required=False),
    argument("--batch-size", "N", "windows predicted at a time (64)", type=int, default=64, required=False),
    argument("--mpp", "X", "µm per pixel of slides whose file does not say", type=float, required=False),
    ("--redo", {"action": "store_true", "help": "predict those slides again that are done"}),
)
def predict(args: argparse.Namespace) -> None:
    """Apply a segmentation network to whole slides."""
    import json

    from stedm.config import Evaluation
    from stedm.segmentation.predict import predict_slides

    windows = {"evaluation": {"overlap": args.overlap, "batch_size": args.batch_size}}
    options = parse(json.dumps(windows), evaluation=Evaluation).evaluation
    predict_slides(options, args.model, args.slides, args.out, args.mpp, args.redo)


@command(
    "evaluation score",
    sections("evaluation, classes, annotations, patches"),
    argument("--model", "DIR", "segmentation network (smp folder)"),
    SPLIT,
    SHEET,
    out("DIR", "confusion.csv (slide, patient, role, true, predicted, pixels) and maps/{slide}.png"),
)
def score_slides(args: argparse.Namespace) -> None:
    """Predict the annotated regions of the test slides and count confusions."""
    from stedm.config import Annotations, Evaluation, Patches, TissueClass
    from stedm.evaluation.scoring import score_slides

    options = parse(
        args.options, evaluation=Evaluation, classes=list[TissueClass], annotations=Annotations, patches=Patches
    )
    score_slides(
        options.evaluation,
        options.classes,
        options.annotations,
        options.patches,
        args.model,
        args.split,
        args.sheet,
        args.out,
    )


@command(
    "evaluation images",
    sections("evaluation"),
    MANIFEST,
    argument("--shards", "H5", "drawn images", nargs="+"),
    SPLIT,
    PATCHES,
    optional("--judge", "DIR", "segmentation network that judges whether images follow their layout"),
    SEED,
    out("DIR", "images.csv (one row an image) and sets.csv (all images together)"),
)
def judge_images(args: argparse.Namespace) -> None:
    """Judge drawn images: layout, style, diversity, copies of training patches, distance to real patches."""
    from stedm.config import Evaluation
    from stedm.evaluation.quality import judge_images

    options = parse(args.options, evaluation=Evaluation).evaluation
    judge_images(options, args.manifest, args.shards, args.split, args.patches, args.judge, args.seed, args.out)


@command(
    "statistics arms",
    sections("study, arms, evaluation, classes (scored names), splits (names), seeds"),
    argument("--evaluation", "DIR", "confusion tables {arm}/{split}/seed{seed}/confusion.csv"),
    SEED,
    out("DIR", "scores.csv, patients.csv, arms.csv and comparisons.csv"),
)
def compare_arms(args: argparse.Namespace) -> None:
    """Compare the arms by patient."""
    from stedm.config import Arm, Evaluation
    from stedm.evaluation.statistics import compare_arms

    options = parse(
        args.options,
        study=str,
        arms=dict[str, Arm],
        evaluation=Evaluation,
        classes=list[str],
        splits=list[str],
        seeds=list[int],
    )
    confusions = [
        args.evaluation / arm / split / f"seed{seed}" / "confusion.csv"
        for arm in options.arms
        for split in options.splits
        for seed in options.seeds
    ]
    compare_arms(options.evaluation, options.study, options.arms, options.classes, confusions, args.seed, args.out)


@command(
    "statistics images",
    sections("evaluation, generators (names), splits (names)"),
    argument("--quality", "DIR", "tables {generator}/{split}/images.csv and sets.csv of drawn images"),
    SEED,
    out("CSV", "generator, annotated_patients, metric, images_of, value, low, high, deviation, images, features"),
)
def compare_generators(args: argparse.Namespace) -> None:
    """Sum up the quality of drawn images by generator."""
    from stedm.config import Evaluation
    from stedm.evaluation.quality import summarise_quality

    options = parse(args.options, evaluation=Evaluation, generators=list[str], splits=list[str])
    folders = [args.quality / name / split for name in options.generators for split in options.splits]
    summarise_quality(options.evaluation, folders, args.seed, args.out)


@command("statistics show", argument("table", "CSV", "arms.csv or image_quality.csv"))
def show_table(args: argparse.Namespace) -> None:
    """Print a table for people, with intervals of 95%."""
    from stedm.figures.tables import readable

    print(readable(args.table).to_string(index=False))


PATIENTS = argument("--patients", "CSV", "table patients.csv: annotated_patients, arm, patient, score")
ARMS = argument("--arms", "CSV", "table arms.csv")
FIGURE = out("PNG", "figure; a PDF is written beside it")


@command(
    "figures table",
    argument("--table", "CSV", "arms.csv or image_quality.csv"),
    out("HTML", "the table as a page, with 95%% intervals"),
)
def write_table(args: argparse.Namespace) -> None:
    """A table for people, as a page of the report."""
    from stedm.figures.tables import readable, write_page

    write_page(readable(args.table), args.table.stem, args.out)


@command("figures scores", PATIENTS, ARMS, FIGURE)
def draw_scores(args: argparse.Namespace) -> None:
    """Each patient's score by arm."""
    from stedm.figures.scores import draw_scores

    draw_scores(args.patients, args.arms, args.out)


@command("figures differences", PATIENTS, ARMS, FIGURE)
def draw_differences(args: argparse.Namespace) -> None:
    """Differences to the reference arm, paired by patient."""
    from stedm.figures.differences import draw_differences

    draw_differences(args.patients, args.arms, args.out)


@command(
    "figures maps",
    sections("evaluation, arms, classes, annotations, patches"),
    SHEET,
    argument("--tables", "DIR", "scores.csv and patients.csv"),
    argument("--evaluation", "DIR", "scores {arm}/{split}/seed{seed}/: confusion.csv and maps"),
    FIGURE,
)
def draw_maps(args: argparse.Namespace) -> None:
    """Test slides with their annotation and what networks make of them."""
    from stedm.config import Annotations, Arm, Evaluation, Patches, TissueClass
    from stedm.figures.maps import draw_maps

    options = parse(
        args.options,
        evaluation=Evaluation,
        arms=dict[str, Arm],
        classes=list[TissueClass],
        annotations=Annotations,
        patches=Patches,
    )
    draw_maps(
        options.evaluation,
        options.arms,
        options.classes,
        options.annotations,
        options.patches,
        args.sheet,
        args.tables,
        args.evaluation,
        args.out,
    )


@command(
    "figures examples",
    sections("classes"),
    MANIFEST,
    argument("--shards", "H5", "drawn images", nargs="+"),
    PATCHES,
    FIGURE,
)
def draw_examples(args: argparse.Namespace) -> None:
    """Drawn images with what they were made of."""
    from stedm.config import TissueClass
    from stedm.figures.examples import draw_examples

    classes = parse(args.options, classes=list[TissueClass]).classes
    draw_examples(args.manifest, args.shards, args.patches, classes, args.out)


@command(
    "figures closest",
    argument("--quality", "DIR", "of `stedm evaluation images`"),
    argument("--shards", "H5", "drawn images", nargs="+"),
    PATCHES,
    FIGURE,
)
def draw_closest(args: argparse.Namespace) -> None:
    """Drawn images beside the training patches that they are closest to."""
    from stedm.figures.closest import draw_closest

    draw_closest(args.quality, args.shards, args.patches, args.out)


@command(
    "figures grid",
    sections("classes"),
    argument("--manifest", "CSV", "of `stedm synthesis grid`"),
    argument("--images", "H5", "the images that were drawn of it"),
    PATCHES,
    FIGURE,
)
def draw_grid(args: argparse.Namespace) -> None:
    """Layouts and styles, each with each, and the image drawn of both."""
    from stedm.config import TissueClass
    from stedm.figures.grid import draw_grid, read_grid

    classes = parse(args.options, classes=list[TissueClass]).classes
    draw_grid(classes=classes, out=args.out, **read_grid(args.manifest, args.images, args.patches))


@command(
    "figures contact-sheet",
    SHEET,
    PATCHES,
    argument("--overviews", "DIR", "pictures {slide}.png of `stedm patches extract`"),
    FIGURE,
)
def draw_contact_sheet(args: argparse.Namespace) -> None:
    """All slides at a glance, with name, patient, group, number of patches and status."""
    from stedm.figures.contact_sheet import draw_contact_sheet

    draw_contact_sheet(args.sheet, args.patches, args.overviews, args.out)


@command(
    "figures histories",
    sections("arms, reference_arm (name), generators (names), splits (names), seeds"),
    argument("--results", "DIR", "results of the study, with history.csv in each folder of a network"),
    FIGURE,
)
def draw_histories(args: argparse.Namespace) -> None:
    """The loss of each training."""
    from stedm.config import Arm
    from stedm.figures.history import draw_histories

    options = parse(
        args.options,
        arms=dict[str, Arm],
        reference_arm=str,
        generators=list[str],
        splits=list[str],
        seeds=list[int],
    )
    generators = {
        name: [args.results / "generators" / name / split / "history.csv" for split in options.splits]
        for name in options.generators
    }
    networks = {
        arm.label: [
            args.results / "segmentation" / name / split / f"seed{seed}" / "history.csv"
            for split in options.splits
            for seed in options.seeds
        ]
        for name, arm in options.arms.items()
    }
    histories = {"generators": generators, "segmentation networks": networks}
    reference = options.arms[options.reference_arm].label
    draw_histories({title: runs for title, runs in histories.items() if runs}, reference, args.out)


def parse(text: str, **kinds: Any) -> Any:
    """Sections of a configuration from a JSON object, each of its kind, as attributes."""
    from pydantic import ValidationError, create_model

    from stedm.config import Section, explain

    fields: dict[str, Any] = {name: (kind, ...) for name, kind in kinds.items()}
    model = create_model("Options", __base__=Section, **fields)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        messages = [line for item in error.errors() for line in explain(item, {})]
        raise UserError([f"--options, {line}" for line in messages]) from None


def read_row(text: str) -> "Slide":
    """A row of the sheet from JSON."""
    from pydantic import TypeAdapter, ValidationError

    from stedm.config import explain
    from stedm.sheet import Slide

    try:
        return TypeAdapter(Slide).validate_json(text)
    except ValidationError as error:
        messages = [line for item in error.errors() for line in explain(item, {})]
        raise UserError([f"--slide, {line}" for line in messages]) from None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stedm",
        description="Style-extracting diffusion models for histopathology segmentation, stage by stage."
        " The whole study runs with Snakemake; these are its steps.",
    )
    parser.add_argument("--version", action="version", version=f"stedm {__version__}")
    top = parser.add_subparsers(title="stages, in the order of a study", metavar="STAGE", required=True)
    groups: dict[str, Any] = {}
    for (first, *rest), run, arguments in COMMANDS:
        summary = (run.__doc__ or "").strip()
        holder, name = top, first
        if rest:
            if first not in groups:
                group = top.add_parser(first, help=GROUPS[first], description=GROUPS[first].capitalize() + ".")
                groups[first] = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
            holder, name = groups[first], rest[0]
        short = (summary[0].lower() + summary.rstrip(".")[1:]).replace("%", "%%")
        one = holder.add_parser(name, help=short, description=summary)
        for flag, details in arguments:
            one.add_argument(flag, **details)
        one.set_defaults(run=run)
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
        args.run(args)
        sys.stdout.flush()
    except UserError as error:
        print("\n".join(error.messages), file=sys.stderr)
        return USER_ERROR
    except Interrupted as error:
        print(error, file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():  # another pipe may break too
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains as it flushes at its end
            return PIPE_CLOSED
        print(explain_failure(error), file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
