"""Training that survives: checkpoints that are whole or absent, one writer, and a clean stop on a signal.

State lives in a work folder that the workflow does not know as an output (it deletes those after a failure), named by
the fingerprint of the configuration section and of the inputs, so that a changed configuration never continues a stale
checkpoint. The random numbers of a step are a function of (seed, step): a resumed run is the run.
"""

import contextlib
import fcntl
import logging
import os
import platform
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any
from weakref import WeakSet

import torch

from stedm.errors import Interrupted
from stedm.files import make_folder, renamed_when_whole
from stedm.processes import rank

KEPT = 2
STOP_SIGNALS = signal.SIGTERM, signal.SIGUSR1
log = logging.getLogger(__name__)


class WorkFolder:
    """Checkpoints `step-<n>.pt` of one training. Make it with `work_folder`."""

    def __init__(self, path: Path):
        self.path = path
        self.stop_requested = False

    def checkpoints(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.path.glob("step-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        whole = {"training": self.path.name, "step": step, **state}
        with renamed_when_whole(self.path / f"step-{step:09d}.pt") as temporary, temporary.open("wb") as file:
            torch.save(whole, file)  # of a path, torch would not say what the system said
        for old in self.checkpoints()[:-KEPT]:
            old.unlink()

    def newest(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read and is of this training; another is named and passed over."""
        for path in reversed(self.checkpoints()):
            try:
                if damaged := zipfile.ZipFile(path).testzip():  # torch does not look at checksums
                    raise ValueError(f"{damaged} is damaged")
                state = torch.load(path, map_location="cpu", weights_only=True)
                if state["training"] != self.path.name:
                    raise ValueError(f"it is of the training {state['training']}")
                return state
            except Exception as error:  # torch raises half a dozen types for a broken file
                log.warning("%s cannot be read (%s); trying the one before", path, error)
        return None


@contextlib.contextmanager
def work_folder(path: Path) -> Iterator[WorkFolder]:
    """Own a work folder: refuse a second writer, and turn SIGTERM and SIGUSR1 into a request to save and stop.

    Of several processes of one training the first owns it. The lock holds between nodes where the file system has
    `flock` between nodes: NFS 4, Lustre mounted with `flock`, BeeGFS with `tuneUseGlobalFileLocks`.

    Raises:
        Interrupted: another process is writing there.
        UserError: the folder cannot be written to.
    """
    make_folder(path)
    folder = WorkFolder(path)

    def request_stop(number: int, frame: FrameType | None) -> None:
        folder.stop_requested = True

    with (path / "lock").open("a+", encoding="utf-8") as lock:
        if rank() == 0:
            take(lock, path)
        previous = {number: signal.signal(number, request_stop) for number in STOP_SIGNALS}
        try:
            yield folder
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def take(lock: IO[str], path: Path) -> None:
    """Lock a work folder and write down who has it; what killed writers left there goes."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        raise Interrupted(
            f"{path}: another process is training there ({lock.read()}); wait for it, or stop it"
        ) from error
    LOCKS.add(lock)
    job = os.environ.get("SLURM_JOB_ID")
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {platform.node()}" + (f", SLURM job {job}" if job else ""))
    lock.flush()
    for left in path.glob(".step-*.tmp"):
        left.unlink()


LOCKS: WeakSet[IO[str]] = WeakSet()


def close_locks() -> None:
    for lock in LOCKS:
        lock.close()


os.register_at_fork(after_in_child=close_locks)  # a worker that outlives a killed training must not hold its lock


def leave_stopping_to_the_training(worker: int) -> None:
    """In a worker that loads data: a scheduler's signal goes to all processes, and the training still needs batches."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Clock:
    """Says when the next checkpoint is due."""

    def __init__(self, minutes: float):
        self.seconds = minutes * 60
        self.last = time.monotonic()

    def due(self) -> bool:
        if time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True
