# What the rules share: the study, its sheet, where things lie, and which part of the configuration a rule hands on.
import json
import os
import re
import sys
from pathlib import Path

from stedm.config import validate
from stedm.errors import UserError
from stedm.sheet import find_companions, read_sheet, write_sheet
from stedm.versions import VERSIONS

# Idle threads must sleep: spinning ones take the core that another training needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def read_study():
    """The validated study, its slides by name, and the masks and coordinates brought for them; what is wrong with any of
    them stops the workflow, without a traceback."""
    source = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
    try:
        study = validate(config, source)
        slides = read_sheet(study.slides, made_here=study.demo is not None)
        companions = find_companions(slides, study.patches)
    except UserError as error:
        sys.exit("\n".join(error.messages))
    return study, {slide.slide: slide for slide in slides}, companions


STUDY, SLIDES, COMPANIONS = read_study()
RESULTS = Path("results") / STUDY.study
PATCHES = RESULTS / "patches"
WORK = RESULTS / "work"
LOGS = RESULTS / "logs"
BENCHMARKS = RESULTS / "benchmarks"
ENVIRONMENT = str(Path(workflow.basedir) / "envs/stedm.yaml")
IMAGE = str(Path(workflow.basedir) / "envs/stedm.sif")
SPLITS = [
    f"n{number}-r{repeat}" for number in STUDY.splits.annotated_patients for repeat in range(STUDY.splits.repeats)
]


def section(*keys, **values):
    """The named sections of the study, and what `values` adds, as one JSON object: an argument of a command.

    Snakemake keeps it with each output; a rule reruns when it changes, so a rule is given what it uses and no more.
    """
    options = STUDY.model_dump(mode="json", include=set(keys)) | values
    text = json.dumps(options)
    return lambda wildcards: text  # a function, or Snakemake would take the braces for wildcards


def row(wildcards):
    """A slide's row of the sheet, so that a changed row reruns what is made of that slide alone."""
    return json.dumps(SLIDES[wildcards.slide].record(), sort_keys=True)


def rows(wildcards):
    """All rows of the sheet."""
    return json.dumps([slide.record() for slide in SLIDES.values()], sort_keys=True)


def patch_files():
    """Patch files of all slides. Rules after the splits do not list them, as a thousand files for each of hundreds of
    jobs cost Snakemake a minute: the split that they take as input is made anew, with the files' fingerprints."""
    return [PATCHES / f"{slide}.h5" for slide in SLIDES]


def slide_files(*slides):
    """Image and annotation files of slides, and the masks and coordinates that the user brings."""
    files = [file for slide in slides for file in (SLIDES[slide].path, SLIDES[slide].annotation, *COMPANIONS[slide])]
    return [file for file in files if file is not None]


def demo_pattern(column):
    """Where the demo draws its slides, or their annotations: the sheet's paths with the slide's name as wildcard."""
    paths = {name: getattr(slide, column) or Path() for name, slide in SLIDES.items()}
    patterns = {
        path.with_name(path.name.replace(f"{name}.", "{slide}.", 1)) for name, path in paths.items() if path.name
    }
    pattern = str(patterns.pop()) if len(patterns) == 1 and all(path.name for path in paths.values()) else ""
    if "{slide}." not in pattern:
        sys.exit(
            f"{STUDY.slides.sheet}, column {column}: slides that the demo draws lie in one folder and are named after the"
            " column slide, such as P01.tiff and P01.geojson; name them so"
        )
    return pattern


def growing(number):
    """Memory in MB or minutes of a job, more at each attempt."""
    return lambda wildcards, attempt: number * attempt


def split_options(wildcards):
    """Where roles come from, without what is swept: another repeat or number of patients leaves this split alone."""
    swept = {"annotated_patients": [number(wildcards, "annotated")], "repeats": 1}
    return section(splits=STUDY.splits.model_dump(mode="json") | swept)(wildcards)


def number(wildcards, what):
    """How many patients are annotated in a split, or which repeat it is."""
    annotated, repeat = re.fullmatch(r"n(\d+)-r(\d+)", wildcards.split).groups()
    return int({"annotated": annotated, "repeat": repeat}[what])


def generator_options(wildcards):
    generator = STUDY.generators[wildcards.generator].model_dump(mode="json")
    return section("first_stage", "device", generator=generator, classes=STUDY.class_names)(wildcards)


def encoder_options(wildcards):
    encoder = STUDY.generators[wildcards.generator].style.encoder.model_dump(mode="json")
    return section(style={"encoder": encoder})(wildcards)


def segmentation_options(wildcards):
    """The section without its seeds and the arm without its label, which change no network."""
    arm = STUDY.arms[wildcards.arm].model_dump(mode="json") | {"label": wildcards.arm}
    segmentation = STUDY.segmentation.model_dump(mode="json", exclude={"seeds"})
    return section("device", segmentation=segmentation, arm=arm, classes=STUDY.class_names)(wildcards)


def first_stage(*folders):
    """Folders of the autoencoder and of its latents in a split; nothing where generators work on pixels."""
    wanted = [] if STUDY.first_stage.kind == "none" else folders
    return lambda wildcards: [RESULTS / folder / wildcards.split for folder in wanted]


def style_bank(wildcards):
    """The style bank that drawing needs; nothing for a generator without style."""
    folder = RESULTS / f"style_bank/{wildcards.generator}/{wildcards.split}"
    return [] if STUDY.generators[wildcards.generator].style.sampler == "none" else [folder]


def style_bank_before_training(wildcards):
    """A frozen encoder's embeddings, which the generator learns from; nothing where it trains the encoder itself."""
    return [] if STUDY.generators[wildcards.generator].style.encoder.trainable else style_bank(wildcards)


def generator_before_embedding(wildcards):
    """The generator whose trained encoder fills the style bank; nothing where the encoder is frozen."""
    folder = RESULTS / f"generators/{wildcards.generator}/{wildcards.split}"
    return [folder] if STUDY.generators[wildcards.generator].style.encoder.trainable else []


def shards(generator, split):
    folder = RESULTS / f"synthesis/{generator}/{split}"
    return [folder / f"shards/{shard}.h5" for shard in range(STUDY.synthesis.shards)]


def synthetic_images(wildcards):
    """Shards of the arm's generator; nothing for an arm of real images only."""
    generator = STUDY.arms[wildcards.arm].generator
    return [] if generator is None else shards(generator, wildcards.split)


def planning(wildcards):
    """What of the section matters to what is planned; a new filter draws anew and plans nothing again."""
    return section(synthesis=STUDY.synthesis.model_dump(mode="json", exclude={"filter"}))(wildcards)


def drawing(wildcards):
    """Names of the classes, and the filter."""
    chosen = STUDY.synthesis.filter
    return section(classes=STUDY.class_names, filter=chosen and chosen.model_dump(mode="json"))(wildcards)


def filtering_network(wildcards):
    """The network that drawn images must agree with; nothing where the study filters none."""
    chosen = STUDY.synthesis.filter
    seed = STUDY.segmentation.seeds[0]
    return [] if chosen is None else [RESULTS / f"segmentation/{chosen.arm}/{wildcards.split}/seed{seed}"]


def judge(wildcards):
    """The network that judges whether drawn images follow their layout; nothing where the study names none."""
    arm = STUDY.evaluation.judge_arm
    seed = STUDY.segmentation.seeds[0]
    return [] if arm is None else [RESULTS / f"segmentation/{arm}/{wildcards.split}/seed{seed}"]


def windows(wildcards):
    """What of the section matters to how test slides are predicted, so that new statistics score none again."""
    evaluation = STUDY.evaluation.model_dump(mode="json", include={"overlap", "batch_size"})
    return section("classes", "annotations", "patches", evaluation=evaluation)(wildcards)


def judging(wildcards):
    """What of the section matters to how drawn images are judged."""
    evaluation = STUDY.evaluation.model_dump(mode="json", include={"judged_images", "batch_size", "features"})
    return section(evaluation=evaluation)(wildcards)


def evaluations():
    """Scores of all networks."""
    return expand(
        RESULTS / "evaluation/{arm}/{split}/seed{seed}", arm=STUDY.arms, split=SPLITS, seed=STUDY.segmentation.seeds
    )


def generator_figures():
    """Tables and figures of drawn images; nothing where the study has no generator."""
    compared = STUDY.evaluation.features != "segmenter" or STUDY.evaluation.judge_arm is not None
    styled = [name for name, generator in STUDY.generators.items() if generator.style.sampler != "none"]
    return [
        *expand(RESULTS / "figures/examples-{generator}.png", generator=STUDY.generators),
        *expand(RESULTS / "figures/grid-{generator}.png", generator=styled),
        *(expand(RESULTS / "figures/closest-{generator}.png", generator=STUDY.generators) if compared else []),
        *([RESULTS / "figures/image_quality.html"] if STUDY.generators else []),
    ]


def comparison(wildcards):
    evaluation = STUDY.evaluation.model_dump(mode="json", include={"reference_arm", "bootstrap"})
    names = {"classes": STUDY.scored_classes, "splits": SPLITS, "seeds": STUDY.segmentation.seeds}
    return section("study", "arms", evaluation=evaluation, **names)(wildcards)


def runs(wildcards):
    """Names of all trainings."""
    reference = STUDY.evaluation.reference_arm
    names = {"generators": list(STUDY.generators), "splits": SPLITS, "seeds": STUDY.segmentation.seeds}
    return section("arms", reference_arm=reference, **names)(wildcards)
