# What the rules share: the study, its sheet, where results lie, and how a job gets its options and inputs.
import inspect
import json
import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

from stedm import requests, server
from stedm.config import stages, validate
from stedm.contents import contents
from stedm.errors import UserError, merged
from stedm.failures import explain, noticed
from stedm.files import fingerprint
from stedm.forecast import missing_weights, splits_of
from stedm.progress import report as report_trainings
from stedm.results import Results, call_with
from stedm.sheet import NAME, find_companions, path_pattern, read_study_sheet, write_sheet
from stedm.versions import VERSIONS

# The one key that is not of the study but of the site: a profile sets it, see profiles/slurm.
TFLOPS = config.pop("gpu_tflops", 40)

# Idle threads must sleep: spinning ones take the core that another training needs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

FETCHED = {}  # by local path: the files that Snakemake fetches from a storage


def fetched(url):
    """Where Snakemake puts a file of the sheet that lies in a storage, such as S3, until the run ends."""
    try:
        stored = storage(url)
    except WorkflowError as error:
        plugin = f"snakemake-storage-plugin-{url.partition('://')[0]}"
        raise UserError(f"{url}: Snakemake cannot fetch it; is {plugin} installed? It says: {error}") from None
    FETCHED[Path(stored)] = stored
    return Path(stored)


def read_study():
    """The validated study, its slides by name, the user-supplied masks and coordinates of each, the patterns of rendered
    files, and what each user-supplied file holds; what is wrong with any of them stops the workflow, without a
    traceback."""
    source = ", ".join(os.path.relpath(path) for path in workflow.configfiles)
    try:
        study = validate(config, source)
        slides = read_study_sheet(study, fetched)
        if problems := splits_of(study, slides)[1] + missing_weights(study):
            raise UserError([f"{source}, {problem}" for problem in problems])
        companions = find_companions(slides, study.patches)
        patterns = study.phantoms and {column: path_pattern(slides, column) for column in ("path", "annotation")}
        given = [] if patterns else slides  # phantoms change with their options
        images = [slide.path for slide in given if slide.path not in FETCHED]
        others = [slide.annotation for slide in given if slide.annotation not in {None, *FETCHED}]
        others += [path for paths in companions.values() for path in paths]
        held = contents(images, others, Path(f".snakemake/contents-{study.study}.json"))
    except UserError as error:
        sys.exit("\n".join(merged(error.messages)))
    return study, {slide.slide: slide for slide in slides}, companions, patterns, held


STUDY, SLIDES, COMPANIONS, PHANTOMS, CONTENTS = read_study()
config.update(STUDY.model_dump(mode="json"))  # the report shows defaults too
RESULTS = Results(STUDY)
LOGS = RESULTS.root / "logs"
BENCHMARKS = RESULTS.root / "benchmarks"
SERVERS = []  # processes that end with this one
LARGE = 16 * 2**20  # bytes of a slide that is worth a second core
ENVIRONMENT = "../../envs/stedm.yaml"  # from the folder of the rules, wherever the workflow is called from
IMAGE = workflow.current_basedir.join("../../envs/stedm.sif").get_path_or_uri(secret_free=False)


def argument(text):
    """JSON as an argument of a command, the same values without `<`: Snakemake's report has parameters in a `<script>`,
    which a label could end."""
    return text.replace("<", "\\u003c")


def options(kind):
    """The options of a stage as the JSON argument of its command; a job reruns when they change."""
    return lambda wildcards: argument(kind.of(STUDY, **dict(wildcards.items())).model_dump_json())


def needs(find):
    """An input: what a method of `RESULTS` finds for the job's wildcards."""
    return lambda wildcards: call_with(find, dict(wildcards.items()))


def row(wildcards):
    """A slide's row of the sheet, so that a changed row reruns what is made of that slide alone."""
    return argument(json.dumps(SLIDES[wildcards.slide].record(), sort_keys=True))


def rows(wildcards):
    """All rows of the sheet."""
    return argument(json.dumps([slide.record() for slide in SLIDES.values()], sort_keys=True))


def patch_files():
    """Patch files of all slides. As inputs they stand in a function: the report shows what inputs a rule lists, but not
    what functions return. Rules after the splits do not list them, as a thousand files for each of hundreds of jobs cost
    Snakemake a minute: the split that they take as input is made again, with the files' fingerprints."""
    return [RESULTS.patch_file(slide) for slide in SLIDES]


def slide_files(*slides):
    """Image and annotation files of slides, and user-supplied masks and coordinates."""
    files = [file for slide in slides for file in (SLIDES[slide].path, SLIDES[slide].annotation, *COMPANIONS[slide])]
    return [file for file in files if file is not None]


def slide_inputs(*slides):
    """Those of the files that can be inputs: Snakemake takes braces in a path for a wildcard, and knows no escape; nor
    does its report escape `<`. What the others hold is among the parameters."""
    return [FETCHED.get(file, file) for file in slide_files(*slides) if not set("{}<") & set(str(file))]


def fetched_files(wildcards):
    """Files that must be fetched for jobs that read slides again: too many to list where all are on the disk."""
    return list(FETCHED.values())


def content_of(*slides):
    """What the files of slides hold, so that a changed one reruns a job though it may be older than the job's results."""
    return fingerprint([CONTENTS.get(file) for file in slide_files(*slides)])


def threads_for(slide):
    """Cores for cutting a slide; a small one leaves the others to its neighbours."""
    path = SLIDES[slide].path
    return 2 if path.exists() and (path.is_dir() or path.stat().st_size > LARGE) else 1


def growing(number):
    """Memory in MB or minutes of a job, more at each attempt."""
    return lambda wildcards, attempt: number * attempt


def training_cores(kind):
    """Cores of a training, from its options."""
    return lambda wildcards: requests.cores(kind.of(STUDY, **dict(wildcards.items())))


def training_memory(kind):
    """Memory in MB of a training, from its options, more at each attempt."""

    def needed(wildcards, attempt, threads):
        return attempt * requests.memory_mb(kind.of(STUDY, **dict(wildcards.items())), STUDY.patches.size, threads)

    return needed


def training_time(kind):
    """Minutes of a training on a GPU, from its options. Does not grow: a retry goes on."""

    def needed(wildcards):
        return requests.training_minutes(kind.of(STUDY, **dict(wildcards.items())), STUDY.patches.size, TFLOPS)

    return needed


def shard_time(wildcards, attempt):
    """Minutes of a shard on a GPU, from the study, more at each attempt."""
    return attempt * requests.shard_minutes(STUDY, wildcards.source, TFLOPS)


def figure(name):
    """The two files of a figure."""
    return {"figure": RESULTS.figure(name), "pdf": RESULTS.figure(name, "pdf")}


def command(text, kind=None):
    """A command of `stedm figures`, with the job's inputs and, as JSON, its options filled in."""

    def fill(wildcards, input):
        values = "" if kind is None else shlex.quote(options(kind)(wildcards))
        return text.format(input=input, options=values, results=RESULTS)

    return fill
