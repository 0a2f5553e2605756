"""What files hold, in a few bytes, so that a job runs again where its inputs hold something else, however old they are.

A digest is computed again only where the system says that a file changed. As with Git's index, its size, its times and
its place on the disk say so.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stedm.files import file_fingerprint

READERS = 8
"""Threads, which mostly wait for disks."""


def contents(slides: Iterable[Path], others: Iterable[Path], cache: Path) -> dict[Path, str]:
    """A text for each file that changes when its content does.

    Args:
        slides: large files, of which size, time, first and last MiB count.
        others: files that are read whole: annotations, masks, coordinates.
        cache: JSON file of the digests so far; what it says of these files is replaced.
    """
    known = read_cache(cache)
    files = dict.fromkeys(slides, True) | dict.fromkeys(others, False)
    with ThreadPoolExecutor(READERS) as pool:
        digests = pool.map(lambda path: digest(path, files[path], known), files)
        found = dict(zip(files, digests, strict=True))
    if (entries := {str(path): list(entry) for path, entry in found.items()}) != known:
        write_cache(cache, entries)
    return {path: text for path, (_, text) in found.items()}


def digest(path: Path, is_slide: bool, known: dict[str, list[str]]) -> tuple[str, str]:
    """What the system says of a file, and the digest of its content; both are empty for a file that cannot be read."""
    try:
        status = path.stat()
        state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino} {is_slide}"
        before, text = known.get(str(path), ("", ""))
        if state == before:
            return state, text
        if is_slide:
            return state, f"{file_fingerprint(path)} {int(status.st_mtime)}"
        with path.open("rb") as file:
            return state, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "", ""


def write_cache(path: Path, entries: dict[str, list[str]]) -> None:
    """Keep the digests where that is possible; several jobs may do so at once."""
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entries), encoding="utf-8")
        temporary.replace(path)


def read_cache(path: Path) -> dict[str, list[str]]:
    """State and digest of each file; nothing where the cache is missing or damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(state), str(text)] for name, (state, text) in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
