"""Errors that a user can fix. Everything else is a defect of ours and keeps its traceback."""

from collections.abc import Sequence


class UserError(Exception):
    """One or more mistakes in what the user gave: each message names file, line or key, and the remedy."""

    def __init__(self, messages: str | Sequence[str]):
        self.messages = [messages] if isinstance(messages, str) else list(messages)
        super().__init__("\n".join(self.messages))


class Interrupted(Exception):
    """Work was stopped by a signal, or another process holds it; its state is saved and running again resumes it."""
