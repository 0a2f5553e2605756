"""Corrupt the outputs of a finished study, one at a time, and see that no command uses one silently.

    python tests/corruption.py                # a small study of every stage and 400 corruptions of it, some minutes
    python tests/corruption.py swapped        # those with one of these words

A file loses its end, its last row or all, a bit flips, or it is put in another's place, alone or with its seal; so are
whole folders. Then the commands that read it run, writing elsewhere. Each must stop with status 2 and name the file or
its folder, or write, byte for byte, what it wrote before: it did not read what was hit, or did not need it. The exit
status is 0 if all did.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import chaos
import damage
import hostile

from stedm import config
from stedm.cli.command import COMMANDS, GROUPS, Command
from stedm.results import Results, call_with
from stedm.seals import SUMS, seal_of
from stedm.sheet import read_study_sheet

ROLES = {"A1": "annotated", "A2": "annotated", "U1": "unannotated", "U2": "unannotated", "T1": "test", "T2": "test"}
STUDY = """
study: small
slides: {sheet: slides.csv}
phantoms: {size: 512}
classes:
  - {name: stroma, color: "#e8a0bf", annotations: [Stroma]}
  - {name: tumour, color: "#6a3d9a", annotations: [Tumor]}
annotations: {fill: stroma}
patches: {size: 32, mpp: 1.0}
splits: {source: sheet, annotated_patients: [1, 2]}
first_stage:
  kind: trained
  channels: [8, 8]
  training: {steps: 2, batch_size: 2}
generators:
  styled: &generator
    preset: demo
    unet: {channels: [16, 32], attention: [false, true]}
    training: {steps: 2, batch_size: 2}
    sampling: {steps: 2}
  guided: {<<: *generator, unannotated_layouts: {arm: real, confidence: 0.5}}
sources:
  recolour: {kind: recolour}
  labels: {kind: pseudo_labels, arm: real, confidence: 0.5}
synthesis: {images: 8, shards: 2, style_images: 2}
segmentation:
  encoder: tu-test_resnet
  encoder_depth: 3
  decoder_channels: [16, 8, 8]
  seeds: [0, 1]
  training: {steps: 2, batch_size: 4}
arms:
  real: {label: real}
  strong: {label: strong, augmentation: strong}
  styled: {label: styled, sources: [styled, labels]}
  all: {label: all, annotations: all}
evaluation: {reference_arm: strong, evaluator_arm: all, bootstrap: 50}
"""
NOT_READ = ("logs", "benchmarks")
"""Folders of the results that no command reads."""
WRITTEN = ("out", "overview", "work")
"""Arguments that say where a command writes."""


class Job(NamedTuple):
    """A command with all that it reads.

    Attributes:
        command: its words.
        arguments: options and inputs.
        written: where the study has what it writes, by argument.
        inputs: files and folders that it reads.
    """

    command: tuple[str, ...]
    arguments: tuple[str, ...]
    written: tuple[tuple[str, Path], ...]
    inputs: tuple[Path, ...]

    def reads(self, path: Path) -> bool:
        return any(path.is_relative_to(one) for one in self.inputs)

    def is_done(self) -> bool:
        return all(path.exists() for name, path in self.written if name != "work")

    def words(self, folder: Path) -> list[str | Path]:
        """The command line that writes into a folder."""
        where = ((f"--{name}", folder / name / path.name) for name, path in self.written)
        return [*self.command, *self.arguments, *itertools.chain(*where)]


def jobs(study: config.Study) -> list[Job]:
    """All jobs of a study, with the arguments that the workflow gives them, in its order; also some that it has not."""
    names = {
        "slide": [slide.slide for slide in read_study_sheet(study)],
        "split": list(study.splits.all),
        "generator": list(study.generators),
        "source": list(study.all_sources),
        "arm": list(study.arms),
        "seed": [str(seed) for seed in study.segmentation.seeds],
        "shard": [str(shard) for shard in range(study.synthesis.shards)],
    }
    found = []
    for command in sorted(COMMANDS, key=lambda command: list(GROUPS).index(command.words[0])):
        if any(item.of_study for item in command.arguments):
            for chosen in itertools.product(*(names[name] for name in command.names)):
                own = dict(zip(command.names, chosen, strict=True))
                with contextlib.suppress(Exception):  # the study has no such job
                    found.append(job(study, command, own))
                    if command.words == ["synthesis", "generate"] and own["shard"] == "0":
                        found.append(grid_job(study, found[-1], own["source"], own["split"]))
    return found


def grid_job(study: config.Study, shard: Job, source: str, split: str) -> Job:
    """The job that makes a grid's images, from that of the source's first shard."""
    results = Results(study)
    plan, other = results.plan(source, split), results.grid_plan(source, split)
    wanted = config.GridOptions.of(study, source=source, split=split).model_dump_json()
    arguments = [str(other) if word == str(plan) else word for word in shard.arguments]
    inputs = tuple(other if path == plan else path for path in shard.inputs)
    return Job(
        shard.command, ("--options", wanted, *arguments[2:]), (("out", results.grid_images(source, split)),), inputs
    )


def job(study: config.Study, command: Command, names: dict[str, str]) -> Job:
    words, written, inputs = [], [], []
    if command.options:
        words += ["--options", getattr(config, command.options).of(study, **names).model_dump_json()]
    for item in command.arguments:
        value = item.of_study and call_with(item.of_study, {**names, "results": Results(study)})
        values = value if isinstance(value, list) else [value] if value is not None else []
        if item.name in WRITTEN and values:
            written.append((item.name, values[0]))
        elif values:
            words += [item.flag, *map(str, values)]
            inputs += [one for one in values if isinstance(one, Path)]
    return Job(tuple(command.words), tuple(words), tuple(written), tuple(inputs))


def make_study(folder: Path) -> config.Study:
    """A finished study in a folder, which becomes the working folder: jobs run as soon as their inputs are there."""
    os.chdir(folder)
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    rows = [f"{name},{name},{name}.tiff,{name}.geojson,solid,{role}" for name, role in ROLES.items()]
    Path("slides.csv").write_text("\n".join(["slide,patient,path,annotation,group,split", *rows]) + "\n")
    study = config.load(Path("study.yaml"))
    for slide in read_study_sheet(study):
        wanted = config.PhantomOptions.of(study, slide=slide.slide).model_dump_json()
        hostile.run(["phantom", "render", "--options", wanted, "--slide", json.dumps(slide.record())], Path("log"))
    every, before = jobs(study), -1
    while before < (before := sum(one.is_done() for one in every)):
        for one in every:
            if not one.is_done() and all(path.exists() for path in one.inputs):
                into = [word for name, path in one.written for word in (f"--{name}", path)]
                hostile.run([*one.command, *one.arguments, *into], Path("log"))
    if not Results(study).report.exists():
        raise RuntimeError(Path("log").read_text(encoding="utf-8"))
    return study


# Corruptions


def flip(path: Path, rng: random.Random) -> None:
    damage.flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def cut_row(path: Path, rng: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))


def empty(path: Path, rng: random.Random) -> None:
    os.truncate(path, 0)


DAMAGES = {"bit flipped": flip, "cut": cut, "last row cut": cut_row, "emptied": empty}


def exchange(*pairs: tuple[Path, Path]) -> None:
    """Put files or folders in each other's place."""
    for one, other in pairs:
        between = one.with_name(f".{one.name}.between")
        one.rename(between)
        other.rename(one)
        between.rename(other)


class Corruption(NamedTuple):
    """What is done to a file or folder; `other`: in whose place it is put."""

    how: str
    path: Path
    other: Path | None = None

    @contextlib.contextmanager
    def done(self, rng: random.Random) -> Iterator[None]:
        if self.other is None:
            before = self.path.read_bytes()
            DAMAGES[self.how](self.path, rng)
            try:
                yield
            finally:
                self.path.write_bytes(before)
            return
        pairs = [(self.path, self.other)]
        if self.how == "swapped with its seal":
            pairs.append((seal_of(self.path), seal_of(self.other)))
        exchange(*pairs)
        try:
            yield
        finally:
            exchange(*pairs)


def corruptions(results: Path, rng: random.Random) -> list[Corruption]:
    """Each corruption of each file, and each swap of files or folders of a kind, the kinds in turn."""
    every = [path for path in sorted(results.rglob("*")) if path.relative_to(results).parts[0] not in NOT_READ]
    files = [path for path in every if path.is_file() and path.name != ".snakemake_timestamp"]
    found = [Corruption(how, path) for path in files for how in DAMAGES if possible(how, path)]
    for kind in (files, [path for path in every if (path / SUMS).is_file()]):
        for one, other in itertools.combinations(kind, 2):
            if kind_of(results, one) == kind_of(results, other) and not same(one, other):
                found.append(Corruption("swapped", one, other))
                if seal_of(one).is_file() and seal_of(other).is_file():
                    found.append(Corruption("swapped with its seal", one, other))
    rng.shuffle(found)
    turns: defaultdict[tuple[str, ...], list[Corruption]] = defaultdict(list)
    for item in found:
        turns[(item.how, *kind_of(results, item.path))].append(item)
    return [item for turn in itertools.zip_longest(*turns.values()) for item in turn if item is not None]


def kind_of(results: Path, path: Path) -> tuple[str, ...]:
    """What a file or folder is: the first part of its path, its depth, and its ending, or its name where that tells."""
    parts = path.relative_to(results).parts
    ending = (
        path.suffix if path.suffix in (".h5", ".png", ".pdf", ".sha256") or path.parent.name == "splits" else path.name
    )
    return parts[0], str(len(parts)), "" if path.is_dir() else ending


def same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def possible(how: str, path: Path) -> bool:
    if path.stat().st_size == 0:
        return False
    return how != "last row cut" or (path.suffix == ".csv" and path.read_bytes().count(b"\n") > 1)


# What then happens


@dataclass
class Campaign:
    """Runs jobs, and knows what they write from whole inputs."""

    study: config.Study
    folder: Path
    readers: int
    rng: random.Random

    def __post_init__(self) -> None:
        done = [one for one in jobs(self.study) if one.is_done()]
        # the plan of a grid is another plan's; what reads both, the images' job, refuses that of another split
        self.jobs = [one for one in done if one.command != ("synthesis", "grid")]
        self.expected: dict[tuple[Job, bool], dict[str, str] | None] = {}
        self.counts: Counter[tuple[str, str]] = Counter()

    def run(self, one: Job, resumed: bool) -> tuple[hostile.Outcome, dict[str, str], str]:
        """How a job ends, what it has written, by file, and what it said; resumed: with the checkpoints there are."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, path in one.written:
            (self.folder / name).mkdir(parents=True)
            if name == "work" and resumed:
                shutil.copytree(path, self.folder / name / path.name)
        outcome = hostile.run(one.words(self.folder), self.folder / "log")
        digests = {name: digest for name, digest in chaos.digests(self.folder).items() if name != "log"}
        return outcome, digests, (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def whole(self, one: Job, resumed: bool) -> dict[str, str] | None:
        """What a job writes from whole inputs; None: it does not end well."""
        if (one, resumed) not in self.expected:
            outcome, digests, _ = self.run(one, resumed)
            self.expected[one, resumed] = digests if outcome.status == 0 else None
        return self.expected[one, resumed]

    def readers_of(self, *paths: Path) -> list[tuple[Job, bool]]:
        """Jobs that read one of these, one of each command and so many at most, and whether from its checkpoints."""
        found: dict[tuple[str, ...], tuple[Job, bool]] = {}
        for one in self.rng.sample(self.jobs, len(self.jobs)):
            resumed = any(path.is_relative_to(work) for path in paths for name, work in one.written if name == "work")
            reads = resumed or any(map(one.reads, paths))
            if reads and one.command not in found and self.whole(one, resumed) is not None:
                found[one.command] = one, resumed
            if len(found) == self.readers:
                break
        return list(found.values())

    def attempt(self, item: Corruption) -> list[str]:
        """Corrupt, run what reads it, and put it right again; returns what is wrong, and counts."""
        paths = [covered(path) for path in (item.path, item.other) if path is not None]
        readers = self.readers_of(*paths)
        root, wrong, noticed = Results(self.study).root, [], False
        with item.done(self.rng):
            for one, resumed in readers:
                outcome, digests, said = self.run(one, resumed)
                shown = f"{item.how}: {item.path} {item.other or ''}\n    {' '.join(one.command)}"
                if outcome.status == 2 and not outcome.traceback:
                    noticed = True
                    names = {name for path in paths for name in (path, path.parent)} if item.other is None else {root}
                    if not any(str(name) in said for name in names):
                        wrong.append(f"{shown}: does not name it: {outcome.last}")
                elif outcome.status or outcome.traceback:
                    wrong.append(f"{shown}: status {outcome.status}: {outcome.last}")
                elif names := differing(digests, self.whole(one, resumed) or {}):
                    wrong.append(f"{shown}: used silently, {', '.join(names[:3])} differ")
        end = "wrong" if wrong else "refused" if noticed else "the same results" if readers else "read by nothing"
        self.counts[item.how, end] += 1
        return wrong


def differing(digests: dict[str, str], before: dict[str, str]) -> list[str]:
    """Names of results that are not as before; provenance names what was read, which two exchanged inputs change."""
    names = (name for name in digests if digests[name] != before.get(name))
    sealed = (SUMS, ".stedm", "provenance.json")
    return sorted(name for name in names if not set(sealed) & set(Path(name).parts))


def covered(path: Path) -> Path:
    """The file that a seal is of; other files themselves."""
    return path.parent.parent / path.name.removesuffix(".sha256") if path.suffix == ".sha256" else path


def campaign(study: config.Study, folder: Path, count: int, readers: int, seed: int, words: Sequence[str] = ()) -> int:
    """Corrupt so many outputs of the study in the working folder, one at a time; prints what happened, and returns how
    often it was wrong.

    Args:
        study: finished.
        folder: to write to.
        count: of corruptions.
        readers: commands that are run at most for each.
        seed: of what is chosen.
        words: one of which the corruption must have in its name or path.
    """
    rng = random.Random(seed)
    running = Campaign(study, folder, readers, rng)
    chosen = [
        item
        for item in corruptions(Results(study).root, rng)
        if not words or any(word in f"{item.how} {item.path}" for word in words)
    ][:count]
    wrong = 0
    for item in chosen:
        problems = running.attempt(item)
        wrong += bool(problems)
        print(*problems, sep="\n", end="\n" if problems else "", flush=True)
    for (how, end), number in sorted(running.counts.items()):
        print(f"{number:6} {how}: {end}")
    print(f"{len(chosen)} corruptions, {wrong} not as they should be", flush=True)
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", help="of kinds of corruption or of paths (all)")
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--readers", type=int, default=3, help="commands that are run at most for each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", type=Path, help="file of a finished study to corrupt (without: one is made)")
    parser.add_argument(
        "--folder", type=Path, help="empty folder to make the study in, kept (without: a temporary one)"
    )
    args = parser.parse_args(argv)
    for module in ("diffusion.training", "evaluation.quality", "segmentation.training", "report.study", "figures.maps"):
        importlib.import_module(f"stedm.{module}")  # once, and not in each copy of this process
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).absolute()
        if args.study is None:
            study = make_study(folder)
        else:
            study = config.load(args.study)
            os.chdir(args.study.parent)
        return 1 if campaign(study, folder / "again", args.count, args.readers, args.seed, args.words) else 0


if __name__ == "__main__":
    sys.exit(main())
