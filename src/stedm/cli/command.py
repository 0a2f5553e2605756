"""What a command is made of: its name, its arguments, and where a stage finds its options.

A stage gets its options as JSON (`--options`, as the rules call it) or from a study file (`--study`, as a person types
it), which also says where inputs and outputs lie.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stedm.errors import UserError

if TYPE_CHECKING:
    from stedm.config import StageOptions, Study
    from stedm.results import Results
    from stedm.sheet import Slide

GROUPS: dict[str, str | None] = {
    "doctor": None,
    "init": None,
    "config": "the configuration of a study",
    "sheet": "sample sheets of published data sets",
    "phantom": "phantom slides",
    "check": None,
    "patches": "slides to patches",
    "splits": "who is annotated, unannotated, for validation or for the test",
    "first-stage": "the autoencoder",
    "generator": "the diffusion model",
    "style-bank": "cached style embeddings",
    "synthesis": "synthetic labelled images",
    "segmentation": "the segmentation network",
    "watch": None,
    "predict": None,
    "evaluation": "scores of networks and quality of generated images",
    "statistics": "tables that compare arms and sources of images",
    "figures": "figures from the tables",
    "report": None,
    "push": None,
    "completion": None,
}
"""First words of commands, in the order of a study, and the help of those that have several."""
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""How shells complete paths: `shtab.FILE`."""
NAMES = {
    "slide": "slide of the sheet",
    "split": "split, such as n3-r0",
    "generator": "generator",
    "source": "source of synthetic images",
    "arm": "arm",
    "seed": "seed of the network",
    "shard": "shard of the plan, from 0",
}
"""What a job may be for, and its help."""


@dataclass(frozen=True)
class Argument:
    """An argument of a command.

    Attributes:
        flag: of the command line; without dashes, its position.
        details: of `argparse`.
        needed: without a study file it must be given.
        of_study: its value from a study's results and from those of the job's names that are parameters of it.
        replaced: a file or folder that the command writes as a whole, in place of what it wrote before.
    """

    flag: str
    details: dict[str, Any]
    needed: bool
    of_study: Callable[..., Any] | None = None
    replaced: bool = False

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


def argument(
    flag: str, metavar: str, help: str, of_study: Callable[..., Any] | None = None, needed: bool = True, **more: Any
) -> Argument:
    return Argument(flag, {"metavar": metavar, "help": help, "type": Path} | more, needed, of_study)


def optional(flag: str, metavar: str, help: str, of_study: Callable[..., Any] | None = None) -> Argument:
    """An input that only some studies have: the flag may be left out, or stand without a value."""
    return argument(flag, metavar, help, of_study, needed=False, nargs="?")


def files(flag: str, metavar: str, help: str, of_study: Callable[..., Any] | None = None, **more: Any) -> Argument:
    """Several inputs."""
    return argument(flag, metavar, help, of_study, **({"nargs": "+"} | more))


def out(metavar: str, help: str, of_study: Callable[..., Any] | None = None, shared: bool = False) -> Argument:
    """What is written; `shared`: a folder that others may write to as well."""
    return Argument("--out", {"metavar": metavar, "help": help, "type": Path}, True, of_study, replaced=not shared)


def flag(name: str, help: str) -> Argument:
    return Argument(name, {"action": "store_true", "help": help}, needed=False)


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        words: its name.
        run: what it does, (args) or, of a stage, (options, args).
        arguments: its own.
        options: name of the options class in `stedm.config`; None for what is no stage.
        names: which names a job has.
    """

    words: list[str]
    run: Callable[..., None]
    arguments: Sequence[Argument]
    options: str | None = None
    names: Sequence[str] = field(default=())

    @property
    def summary(self) -> str:
        return (self.run.__doc__ or "").strip()

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        study: dict[str, Any] = {"metavar": "YAML", "type": Path, "help": "study file that says all that is not given"}
        if self.options:
            source = parser.add_mutually_exclusive_group(required=True)
            source.add_argument("--options", metavar="JSON", help=f"options of the stage ({self.options})")
            source.add_argument("--study", **study)
        elif any(item.of_study for item in self.arguments):
            parser.add_argument("--study", **study)
        own = [item.flag for item in self.arguments]
        for name in self.names:
            if f"--{name}" not in own:
                parser.add_argument(f"--{name}", metavar="NAME", help=f"with --study: {NAMES[name]}")
        for item in self.arguments:
            details = dict(item.details)
            if item.name in self.names:
                details |= {"type": str, "help": f"{item.details['help']}; with --study: {NAMES[item.name]}"}
            added: Any = parser.add_argument(item.flag, **details)
            if details.get("type") is Path:
                added.complete = FILES
        parser.set_defaults(command=self)

    def __call__(self, args: argparse.Namespace) -> None:
        """Run it.

        Raises:
            UserError: options or arguments are missing or wrong.
        """
        from stedm import config
        from stedm.files import refuse_to_replace
        from stedm.models import local_folder

        kind: type[StageOptions] | None = getattr(config, self.options) if self.options else None
        if getattr(args, "study", None) is not None:
            names = {name: getattr(args, name) for name in self.names}
            study = self.fill_in(args, names)
            options = kind and kind.of(study, **names)
        else:
            self.check_given(args)
            options = kind and kind.parse(args.options)
        for item in self.arguments:
            value = getattr(args, item.name)
            if item.replaced:
                refuse_to_replace(value)  # now, and not after hours
            elif isinstance(value, Path):
                setattr(args, item.name, local_folder(value))  # of hf:owner/name
        self.run(*([options] if options is not None else []), args)

    def check_given(self, args: argparse.Namespace) -> None:
        """Without a study, all that is needed must be given, as paths."""
        if missing := [item.flag for item in self.arguments if item.needed and getattr(args, item.name) in (None, [])]:
            raise UserError(f"stedm {' '.join(self.words)}: {', '.join(missing)} must be given")
        for item in self.arguments:
            if item.name in self.names and getattr(args, item.name) is not None:
                setattr(args, item.name, item.details["type"](getattr(args, item.name)))

    def fill_in(self, args: argparse.Namespace, names: dict[str, str]) -> "Study":
        """Give the arguments that were left out what the study says; those that name the job become paths."""
        from stedm.config import load
        from stedm.results import Results, call_with

        study = load(args.study)
        if problems := wrong_names(study, names):
            raise UserError([f"stedm {' '.join(self.words)} {problem}" for problem in problems])
        known = {**names, "results": Results(study)}
        for item in self.arguments:
            if item.of_study and (item.name in self.names or getattr(args, item.name) in (None, [])):
                setattr(args, item.name, call_with(item.of_study, known))
        return study


def wrong_names(study: "Study", names: Mapping[str, str | None]) -> list[str]:
    """What is wrong with the names of a job; slides are looked up in the sheet, later."""
    from stedm.config import choices

    known = {
        "generator": list(study.generators),
        "source": list(study.all_sources),
        "arm": list(study.arms),
        "split": list(study.splits.all),
        "seed": [str(seed) for seed in study.segmentation.seeds],
        "shard": [str(shard) for shard in range(study.synthesis.shards)],
    }
    problems = []
    for name, value in names.items():
        if value is None:
            problems.append(f"--{name}: give the {NAMES[name]}")
        elif name in known and value not in known[name]:
            problems.append(f"--{name}: the study has no {name} {value!r}; {choices(value, known[name])}")
    return problems


COMMANDS: list[Command] = []


def command(
    name: str, *arguments: Argument, names: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function (args) a subcommand; its docstring is the help."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        COMMANDS.append(Command(name.split(), run, arguments, None, names))
        return run

    return register


def stage(
    name: str, options: str, *arguments: Argument, names: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function (options, args) the subcommand of a stage."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        COMMANDS.append(Command(name.split(), run, arguments, options, names))
        return run

    return register


def sheet_of(results: "Results") -> Path:
    """The study's sheet with resolved paths, written if that has not been done, or not of today's sheet."""
    from stedm.sheet import read_study_sheet, write_sheet

    write_sheet(results.sheet, read_study_sheet(results.study))
    return results.sheet


def row_of(results: "Results", slide: str) -> str:
    """A slide's row of the study's sheet, as JSON."""
    from stedm.config import choices
    from stedm.sheet import read_study_sheet

    rows = read_study_sheet(results.study)
    found = {row.slide: row for row in rows}
    if slide not in found:
        raise UserError(f"--slide: {results.study.slides.sheet} has no slide {slide!r}; {choices(slide, found)}")
    return json.dumps(found[slide].record())


def read_row(text: str) -> "Slide":
    """A row of the sheet from JSON."""
    from pydantic import TypeAdapter, ValidationError

    from stedm.config.messages import explain
    from stedm.sheet import Slide

    adapter = TypeAdapter(Slide)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in explain(item, adapter.json_schema())]
        raise UserError([f"--slide, {line}" for line in lines]) from None


def first(paths: Sequence[Path]) -> Path | None:
    """The one path of a list that may be empty."""
    return paths[0] if paths else None


SHEET = argument(
    "--sheet", "CSV", "slides: slide, patient, path, annotation, group, mpp, split (paths from here)", sheet_of
)
SLIDE = argument(
    "--slide", "JSON", "row of the sheet: slide, patient, path, annotation, group, mpp, split", row_of, type=str
)
PATCHES = argument("--patches", "DIR", "patch files {slide}.h5", lambda results: results.patches)
SPLIT = argument(
    "--split", "CSV", "roles: slide, patient, group, role, labelled", lambda results, split: results.split(split)
)


def work(stage: str) -> Argument:
    return argument(
        "--work", "DIR", "checkpoints, from which a stopped run resumes", lambda results: results.work / stage
    )


PROCESSES = argument(
    "--processes", "N", "that share each batch, one for each GPU (1)", needed=False, type=int, default=1
)
PLAN = argument(
    "--plan",
    "CSV",
    "what to generate, one row per image",
    lambda results, source, split: results.plan(source, split),
)
MANIFEST = argument(
    "--manifest",
    "CSV",
    "what was generated, one row per image",
    lambda results, source, split: results.manifest(source, split),
)
SHARDS = files("--shards", "H5", "generated images", lambda results, source, split: results.shards(source, split))
