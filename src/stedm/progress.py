"""What a training shows while it runs: a bar or lines, and a record in its work folder that others can read.

In the work folder of a running training lie `progress.json` (`running` reads it, `stedm watch` and the workflow show
it), and, renewed at checkpoints, `history.csv`, `loss.png` and what the training previews.
"""

import contextlib
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

RECORD = "progress.json"
RECORD_SECONDS, LOG_SECONDS = 2, 60
"""Between two records, and two lines in a log."""
SILENT_SECONDS, SILENT_STEPS = 120, 5
"""A training that has recorded nothing for so long, and for so many of its steps, is no longer running."""
RECENT = 20
"""Steps that the shown loss is the mean of."""
SHARE = 0.02
"""Of the time of a training, at most, goes into pictures of it; none in the first minute."""
FIRST_SECONDS = 60
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class State:
    """Where a training is: loss is the mean of the latest steps, rate in steps a second, left in seconds."""

    title: str
    device: str
    step: int
    steps: int
    loss: float
    rate: float
    left: float

    def __str__(self) -> str:
        return (
            f"{self.title}: step {self.step:,} of {self.steps:,}, loss {self.loss:.4g}, {self.rate:.3g} steps/s on"
            f" {self.device}, {tqdm.format_interval(self.left)} left"
        )


class Progress:
    """Shows a training: on a terminal as a bar, else as a line a minute; and records it for others.

    Args:
        title: what is trained.
        device: its name.
        start: steps that are done already.
        steps: all steps.
        folder: where the record lies; None shows nothing, as of all processes of a training but the first.
    """

    def __init__(self, title: str, device: str, start: int, steps: int, folder: Path | None):
        self.title, self.device, self.start, self.steps, self.folder = title, device, start, steps, folder
        self.losses: deque[float] = deque(maxlen=RECENT)
        self.since = self.logged = time.monotonic()
        self.recorded = 0.0
        self.bar = tqdm(initial=start, total=steps, desc=title, unit="step", disable=None if folder else True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.folder is not None:
            (self.folder / RECORD).unlink(missing_ok=True)

    def update(self, step: int, loss: float) -> None:
        """`step` steps are done, the last one with this loss."""
        now = time.monotonic()
        self.losses.append(loss)
        self.bar.update()
        record, say = now - self.recorded >= RECORD_SECONDS, now - self.logged >= LOG_SECONDS or step == self.steps
        if not (record or say):
            return
        rate = (step - self.start) / max(now - self.since, 1e-9)
        mean = sum(self.losses) / len(self.losses)
        state = State(self.title, self.device, step, self.steps, mean, rate, (self.steps - step) / rate)
        self.bar.set_postfix_str(f"loss {mean:.4g}, {self.device}")
        if self.folder is not None:
            with contextlib.suppress(OSError):  # a full disk stops the training at its next checkpoint, with a message
                temporary = self.folder / f".{RECORD}.tmp"
                temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
                temporary.replace(self.folder / RECORD)
        self.recorded = now
        if self.bar.disable and say:
            log.info("%s", state)
            self.logged = now


def running(work: Path) -> dict[Path, State]:
    """The trainings that run now, by their work folders.

    Args:
        work: folder in which trainings have theirs, at any depth.
    """
    found = {}
    for path in sorted(work.glob(f"**/{RECORD}")):
        try:
            state, silent = State(**json.loads(path.read_text(encoding="utf-8"))), time.time() - path.stat().st_mtime
        except (OSError, ValueError, TypeError):  # it has just ended, or another version wrote it
            continue
        if silent < max(SILENT_SECONDS, SILENT_STEPS / state.rate):
            found[path.parent] = state
    return found


def report(work: Path, say: Callable[[str], object], seconds: float = LOG_SECONDS) -> None:
    """Say for ever, now and then, what the running trainings do."""
    while True:
        time.sleep(seconds)
        for state in running(work).values():
            say(str(state))


def watch(work: Path, seconds: float, once: bool) -> None:
    """Show the running trainings: on a terminal as bars that move, else as lines, every few seconds.

    Args:
        work: folder in which trainings have theirs.
        seconds: between two looks.
        once: look once, and say it in lines.
    """
    bars: dict[Path, Any] = {}
    on_terminal = sys.stderr.isatty() and not once
    while True:
        states = running(work)
        if on_terminal:
            show(bars, states)
        else:
            lines = [f"{state} ({folder})" for folder, state in states.items()]
            print("\n".join(lines) or f"{work}: no training is running", flush=True)
        if once:
            return
        time.sleep(seconds)


def show(bars: dict[Path, Any], states: Mapping[Path, State]) -> None:
    """Move the bars of trainings, add those of new ones, and leave those of the others as they stood."""
    for folder in bars.keys() - states.keys():
        bars.pop(folder).close()
    for folder, state in states.items():
        if folder not in bars:
            bars[folder] = tqdm(total=state.steps, desc=state.title, bar_format=BAR)
        bars[folder].n = state.step
        left = tqdm.format_interval(state.left)
        bars[folder].set_postfix_str(f"loss {state.loss:.4g}, {state.rate:.3g} steps/s on {state.device}, {left} left")


class Budget:
    """Says whether a picture may be made now, so that all take no more than a share of a training's time."""

    def __init__(self) -> None:
        self.last, self.cost = time.monotonic(), 0.0

    def allows(self) -> bool:
        return time.monotonic() - self.last >= max(FIRST_SECONDS, self.cost / SHARE)

    @contextlib.contextmanager
    def spent(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.last = time.monotonic()
        self.cost = self.last - start


def plot_loss(table: pd.DataFrame, path: Path) -> None:
    """Loss over steps, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    axes.plot(table["step"], table["loss"])
    axes.grid(linewidth=0.3)
    figure.savefig(path, format="png")
