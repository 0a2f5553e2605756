"""Errors that a user can fix. Everything else is a defect of ours and keeps its traceback."""

import re
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """One or more mistakes in what the user gave: each message names file, line or key, and the remedy."""

    def __init__(self, messages: str | Sequence[str]):
        self.messages = [messages] if isinstance(messages, str) else list(messages)
        super().__init__("\n".join(self.messages))


SHOWN = 3
"""Names that a message lists, and messages alike that are not yet merged."""
OF_SLIDE = re.compile(r"slide (?P<name>'[^']*') \((?P<path>.*?)\): (?P<what>.*)", re.DOTALL)
OF_LINE = re.compile(r"(?P<file>[^,]*), line (?P<name>\d+)(?P<slide> \(slide '[^']*'\))?: (?P<what>.*)", re.DOTALL)
VARYING = re.compile(r"'[^']*'|[^\s/\\;,:()]*[/\\][^\s;,:()]+|\d+")
"""What differs between messages alike: quoted names, paths, numbers."""


def listed(what: str, names: Sequence[str]) -> str:
    """So many things and the first of their names: "57 slides: A, B, C and 54 more"."""
    if len(names) == 1:
        return f"{what} {names[0]!r}"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}s: {', '.join(names[:SHOWN])}{more}"


def merged(messages: Iterable[str]) -> list[str]:
    """One message for those that say the same of several slides or lines, in the order in which each first came.

    More than a few that differ in names, paths and numbers alone are one, too, with the text of the first.
    """
    groups: dict[str, list[str]] = {}
    for message in dict.fromkeys(messages):
        match = OF_SLIDE.fullmatch(message) or OF_LINE.fullmatch(message)
        said = match["what"] if match else message
        file = match.groupdict().get("file", "") if match else ""
        groups.setdefault(f"{match is not None} {file} {VARYING.sub('#', said)}", []).append(message)
    return [line for group in groups.values() for line in as_one(group)]


def as_one(group: list[str]) -> list[str]:
    """Messages alike as one, or as they are where they are few and not the same."""
    matches = [OF_SLIDE.fullmatch(message) or OF_LINE.fullmatch(message) for message in group]
    whats = {match["what"] for match in matches if match}
    if len(group) == 1 or (len(whats) != 1 and len(group) <= SHOWN):
        return group
    first = matches[0]
    if first is None:
        return [f"{group[0]} (and {len(group) - 1} more of this kind)"]
    names = [match["name"].strip("'") for match in matches if match]
    where = listed("slide", names) if first.re is OF_SLIDE else f"{first['file']}, {listed('line', names)}"
    return [f"{where}: {first['what']}" + ("" if len(whats) == 1 else f" (this is the first; {len(group)} alike)")]


class Interrupted(Exception):
    """Work was stopped by a signal, or another process holds it; its state is saved and running again resumes it."""
