"""Files that are whole or absent, fingerprints, and where a result came from."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stedm.errors import UserError
from stedm.seals import is_ours, recorded, seal_of, sha256, write_sums

PACKAGES = ("stedm", "torch", "diffusers", "segmentation-models-pytorch", "openslide-python", "h5py", "numpy")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a full disk, of a quota, and of a limit on the size of a file."""


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` when the block ends, remove it when it fails.

    Works for a file and for a folder that the block makes at the temporary path. What exists is replaced only if we
    wrote it and nobody changed it since (`stedm.seals`); within a folder that is being written all is ours.

    Raises:
        UserError: something is there that is not ours, or of the other kind; the folder cannot be written to; the disk
            is full.
    """
    if any(parent in UNDER_WAY for parent in path.parents):
        with renamed_when_whole(path) as temporary:
            yield temporary
        return
    refuse_to_replace(path)
    with renamed_when_whole(path) as temporary:
        UNDER_WAY.add(temporary)
        try:
            yield temporary
        finally:
            UNDER_WAY.discard(temporary)
        is_folder = temporary.is_dir()
        if path.exists() and path.is_dir() != is_folder:
            there, new = KINDS[not is_folder], KINDS[is_folder]
            raise UserError(f"{path}: is a {there}, and a {new} is to be written; write to another place")
        if is_folder:
            write_sums(temporary)
            return
        replaced = recorded(path) if path.exists() else []
        digest = sha256(temporary)
        write_seal(path, [digest, *replaced])  # first, and with both, so that at no time the file has no seal
    if replaced:
        write_seal(path, [digest])


UNDER_WAY: set[Path] = set()
"""Temporary paths that blocks are writing to."""
KINDS = {False: "file", True: "folder"}


def refuse_to_replace(path: Path) -> None:
    """Stop where something exists that is not our own output.

    Raises:
        UserError: it does.
    """
    if (path.exists() or path.is_symlink()) and not is_ours(path):
        raise UserError(
            f"{path}: exists, and it was not written by stedm, or it was changed since; it is left as it is. Write to"
            " another place, or move it away"
        )


def write_seal(path: Path, digests: Sequence[str]) -> None:
    """Record the digests that a file may have."""
    make_folder(seal_of(path).parent)
    with renamed_when_whole(seal_of(path)) as temporary:
        lines = [f"{digest}  {path.name!a}\n" for digest in digests]  # a line, whatever is in the name
        temporary.write_text("".join(lines), encoding="utf-8")


@contextlib.contextmanager
def renamed_when_whole(path: Path) -> Iterator[Path]:
    """As `written_whole`, of a path that is ours whatever is there.

    The contents are on disk (fsync) before the name appears, so that a file that exists is whole, even after a power
    cut. What killed writers of `path` left on this machine is removed first; of another machine's nobody here knows
    whether they live.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    make_folder(path.parent)
    start = f".{path.name}.{platform.node()}."
    for left in path.parent.glob(f"{glob.escape(start)}*.tmp"):
        pid = left.name.removeprefix(start).removesuffix(".tmp")
        if pid == str(os.getpid()) or (pid.isdigit() and not is_alive(int(pid))):
            remove(left)
    temporary = path.with_name(f"{start}{os.getpid()}.tmp")
    try:
        yield temporary
        for item in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
            sync(item)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        temporary.replace(path)
        sync(path.parent)
    except Exception as error:
        reason = no_space(error)
        if reason is None:
            raise
        written = size_of(temporary)
        remove(temporary)  # first, so that there is space for the message in a log on the same disk
        raise UserError(
            f"{path}: no space to write it ({reason}); {written / 2**20:.0f} MiB of it were written and removed again,"
            f" {shutil.disk_usage(path.parent).free / 2**20:.0f} MiB are free now. Free more than that, or raise the"
            " quota, and run again"
        ) from error
    finally:
        remove(temporary)


def check_regular(path: Path) -> None:
    """Refuse what is no file but, say, a pipe, on which reading would wait for ever; what is not there passes.

    Raises:
        UserError: it is such a thing.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is a {'folder' if path.is_dir() else 'pipe or device'}, and a file is needed")


def make_folder(path: Path) -> None:
    """Make a folder to write to, with those above it.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: this folder cannot be made ({error.strerror}); fix that and run again") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UserError(
            f"{path}: this folder cannot be written to (a read-only disk, or another's folder); fix its permissions"
            " and run again"
        )


def no_space(error: BaseException | None) -> str | None:
    """What the system said where an error, or one that it came from, was for want of space; else None.

    Libraries wrap it: torch in an error that says nothing, safetensors in a text.
    """
    while error is not None:
        for number in NO_SPACE:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def remove(path: Path) -> None:
    """Remove a file or a folder, as far as that is possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def readable(folder: Path) -> None:
    """Give weights the permissions of any new file; safetensors writes them for their owner alone."""
    for path in folder.rglob("*.safetensors"):
        copy = path.with_suffix(".tmp")
        shutil.copyfile(path, copy)
        copy.replace(path)


def write_json(path: Path, value: Any) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def file_fingerprint(path: Path) -> str:
    """SHA-256 of the size and of the first and last MiB: cheap on slides of gigabytes, and tells edits of headers."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()


def fingerprint(*values: Any) -> str:
    """16 hexadecimal digits that name JSON-like values (a configuration section, fingerprints of inputs)."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(options: Any, inputs: dict[str, Any], seed: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """What a result was made from: resolved options, fingerprints of inputs, versions, commit, seed, device."""
    return {
        "options": options,
        "inputs": inputs,
        "seed": seed,
        "device": device,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "commit": git_commit(),
    }


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with `+` where it has changes; None outside of one."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
