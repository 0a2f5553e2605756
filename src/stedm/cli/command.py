"""What a command is made of: its name, its arguments, and where a stage finds its options.

A stage gets its options as JSON (`--options`, as the rules call it) or from a study file (`--study`, as a person types
it), which also says where inputs and outputs lie.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stedm.errors import UserError

if TYPE_CHECKING:
    from stedm.config import StageOptions, Study
    from stedm.results import Results
    from stedm.sheet import Slide

GROUPS = {
    "config": "the configuration of a study",
    "sheet": "sample sheets of published data sets",
    "phantom": "phantom slides",
    "patches": "slides to patches",
    "splits": "who is annotated, unannotated, for validation or for the test",
    "first-stage": "the autoencoder",
    "generator": "the diffusion model",
    "style-bank": "cached style embeddings",
    "synthesis": "generated labelled images",
    "segmentation": "the segmentation network",
    "evaluation": "scores of networks and quality of generated images",
    "statistics": "tables that compare arms and generators",
    "figures": "figures from the tables",
}
NAMES = {
    "slide": "slide of the sheet",
    "split": "split, such as n3-r0",
    "generator": "generator",
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
    """

    flag: str
    details: dict[str, Any]
    needed: bool
    of_study: Callable[..., Any] | None = None

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


def out(metavar: str, help: str, of_study: Callable[..., Any] | None = None) -> Argument:
    return argument("--out", metavar, help, of_study)


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
        if self.options:
            source = parser.add_mutually_exclusive_group(required=True)
            source.add_argument("--options", metavar="JSON", help=f"options of the stage ({self.options})")
            source.add_argument(
                "--study", metavar="YAML", type=Path, help="study file: options, inputs and outputs are the study's"
            )
        own = [item.flag for item in self.arguments]
        for name in self.names:
            if f"--{name}" not in own:
                parser.add_argument(f"--{name}", metavar="NAME", help=f"with --study: {NAMES[name]}")
        for item in self.arguments:
            details = dict(item.details)
            if item.name in self.names:
                details |= {"type": str, "help": f"{item.details['help']}; with --study: {NAMES[item.name]}"}
            if item.flag.startswith("-") and item.needed and not self.options:
                details["required"] = True
            parser.add_argument(item.flag, **details)
        parser.set_defaults(command=self)

    def __call__(self, args: argparse.Namespace) -> None:
        if self.options is None:
            self.run(args)
        else:
            self.run(self.read_options(args), args)

    def read_options(self, args: argparse.Namespace) -> "StageOptions":
        """The options of the job; what the study says of arguments that were not given is filled in.

        Raises:
            UserError: options or arguments are missing or wrong.
        """
        from stedm import config

        kind: type[StageOptions] = getattr(config, self.options or "")
        if args.study is not None:
            return self.read_study(args, kind)
        if missing := [item.flag for item in self.arguments if item.needed and getattr(args, item.name) in (None, [])]:
            raise UserError(f"{' '.join(self.words)}: {', '.join(missing)} must be given, or --study")
        for item in self.arguments:
            if item.name in self.names and item.details["type"] is not str and getattr(args, item.name) is not None:
                setattr(args, item.name, item.details["type"](getattr(args, item.name)))
        return kind.parse(args.options)

    def read_study(self, args: argparse.Namespace, kind: "type[StageOptions]") -> "StageOptions":
        from stedm.config import load
        from stedm.results import Results, call_with

        study = load(args.study)
        names = {name: getattr(args, name) for name in self.names}
        if problems := wrong_names(study, names):
            raise UserError([f"{' '.join(self.words)}, {problem}" for problem in problems])
        results = Results(study)
        for item in self.arguments:
            given = getattr(args, item.name)
            if item.of_study and (item.name in self.names or given in (None, [])):
                setattr(args, item.name, call_with(item.of_study, {**names, "results": results}))
        return kind.of(study, **names)


def wrong_names(study: "Study", names: dict[str, str | None]) -> list[str]:
    """What is wrong with the names of a job; slides are looked up in the sheet, later."""
    from stedm.config import choices

    known = {
        "generator": list(study.generators),
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


def command(name: str, *arguments: Argument) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a function (args) a subcommand; its docstring is the help."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        COMMANDS.append(Command(name.split(), run, arguments))
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
    from stedm.sheet import read_sheet, write_sheet

    write_sheet(results.sheet, read_sheet(results.study.slides, made_here=results.study.phantoms is not None))
    return results.sheet


def row_of(results: "Results", slide: str) -> str:
    """A slide's row of the study's sheet, as JSON."""
    from stedm.config import choices
    from stedm.sheet import read_sheet

    rows = read_sheet(results.study.slides, made_here=results.study.phantoms is not None)
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
WORK = argument("--work", "DIR", "checkpoints, from which a stopped run resumes", lambda results: results.work)
PROCESSES = argument(
    "--processes", "N", "that share each batch, one for each GPU (1)", needed=False, type=int, default=1
)
PLAN = argument(
    "--plan",
    "CSV",
    "what to generate, one row per image",
    lambda results, generator, split: results.plan(generator, split),
)
MANIFEST = argument(
    "--manifest",
    "CSV",
    "what was generated, one row per image",
    lambda results, generator, split: results.manifest(generator, split),
)
SHARDS = files("--shards", "H5", "generated images", lambda results, generator, split: results.shards(generator, split))
