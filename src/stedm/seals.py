"""Which files and folders are our own output, and whether they still are what was written.

A file that a command writes gets a seal, `.stedm/<name>.sha256` next to it, with its SHA-256 and its name, as both may
be put in another's place. A folder that a command writes as a whole has SHA256SUMS in it, which travels with it and
which `sha256sum --check` reads too. What has neither is somebody else's: it is never replaced, and read as it is.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from stedm.errors import UserError

SEALS = ".stedm"
SUMS = "SHA256SUMS"
NOT_LISTED = (SUMS, ".snakemake_timestamp")
"""Snakemake puts the other one into the folders that its jobs write."""
DEEPEST = 3
"""Folders above a file that may list it."""


def sha256(path: Path) -> str:
    """Of a file's contents, in hexadecimal digits: 1.8 GB a second where the processor helps."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal_of(path: Path) -> Path:
    """Where the seal of a file lies."""
    return path.parent / SEALS / f"{path.name}.sha256"


def files_in(folder: Path) -> list[str]:
    """All that a folder holds, but its folders and its list, by relative path."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(name for path in paths if (name := path.relative_to(folder).as_posix()) not in NOT_LISTED)


def write_sums(folder: Path) -> None:
    """List the files of a folder."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in files_in(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by relative path, as a folder lists them; of a list that is damaged, what can be read."""
    path = folder / SUMS
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def recorded(path: Path) -> list[str]:
    """The digests that a file may have; none where nothing is recorded of it. While a file is replaced it has two."""
    seal = seal_of(path)
    if seal.is_file():
        lines = seal.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [(digest, name) for digest, _, name in (line.partition("  ") for line in lines)]
        return [digest for digest, name in found if name in ("", ascii(path.name))] or [""]  # seals had no names once
    for folder in path.parents[:DEEPEST]:
        if digest := read_sums(folder).get(path.relative_to(folder).as_posix()):
            return [digest]
    return []


def is_ours(path: Path) -> bool:
    """Whether a file or folder is what a command wrote, and nobody has changed it, or put something into it, since."""
    if path.is_symlink():
        return False
    if path.is_dir():
        sums = read_sums(path)
        return bool(sums) and files_in(path) == sorted(sums) and all(sha256(path / name) == sums[name] for name in sums)
    return path.is_file() and seal_of(path).is_file() and sha256(path) in recorded(path)


def check_unchanged(path: Path) -> None:
    """Compare a file with what is recorded of it, if anything is.

    Raises:
        UserError: it was changed, cut short or damaged after it was written.
    """
    digests = recorded(path)
    if digests and sha256(path) not in digests:
        raise UserError(
            f"{path}: is not what was written (its SHA-256 is not the recorded one): it was changed, cut short or"
            " damaged. Delete it and run again, which makes it again"
        )


def check_folder_unchanged(folder: Path) -> None:
    """Compare all files of a folder with its list, if it has one.

    Raises:
        UserError: those that are missing, changed, cut short or damaged.
    """
    sums = read_sums(folder)
    wrong = [name for name in sums if not (folder / name).is_file() or sha256(folder / name) != sums[name]]
    if wrong:
        raise UserError(
            [
                f"{folder / name}: is not what {folder / SUMS} says: missing, changed, cut short or damaged. Delete the"
                " folder and run again, which makes it again"
                for name in wrong
            ]
        )


def read_json(path: Path) -> Any:
    """A JSON file that a command wrote.

    Raises:
        UserError: it is missing, no JSON, or changed, cut short or damaged.
    """
    check_unchanged(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); run again what writes it") from error
