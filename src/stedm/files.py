"""Files that are whole or absent, fingerprints, and where a result came from."""

import contextlib
import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("stedm", "torch", "diffusers", "segmentation-models-pytorch", "openslide-python", "h5py", "numpy")


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends, remove it when it fails.

    Works for a file and for a folder that the block makes at the temporary path. The contents are on disk (fsync)
    before the name appears, so that a file that exists is whole, even after a power cut. What killed writers of `path`
    left on this machine is removed first; of another machine's nobody here knows whether they live.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
    finally:
        remove(temporary)


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
