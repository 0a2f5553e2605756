"""Errors that a user can fix. Everything else is a defect of ours and keeps its traceback."""

from collections.abc import Sequence


class UserError(Exception):
    """One or more mistakes in what the user gave: each message names file, line or key, and the remedy."""

    def __init__(self, messages: str | Sequence[str]):
        self.messages = [messages] if isinstance(messages, str) else list(messages)
        super().__init__("\n".join(self.messages))


SHOWN = 3
"""Names that a message lists."""


def listed(what: str, names: Sequence[str]) -> str:
    """So many things and the first of their names: "57 slides: A, B, C and 54 more"."""
    if len(names) == 1:
        return f"{what} {names[0]!r}"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {what}s: {', '.join(names[:SHOWN])}{more}"


class Interrupted(Exception):
    """Work was stopped by a signal, or another process holds it; its state is saved and running again resumes it."""
