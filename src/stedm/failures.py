"""What failed in a run of Snakemake, in the words of the jobs themselves, and what the check noticed: each message
once, after all else."""

import re
from pathlib import Path

from stedm.errors import UserError, merged
from stedm.tables import CHECK

FAILED = re.compile(r"^Error in (?:group job|rule) (\w+)[^\n]*:\n((?:    .*\n?)*)", re.MULTILINE)
LOGS = re.compile(r"^    log: (.*?)(?: \(check log file\(s\) for error details\))?$", re.MULTILINE)
LOGGED = re.compile(r"\d\d:\d\d:\d\d |.*\d+%\|")
"""How lines begin that are no messages to the user: those of the log, and progress bars."""
LAST = 15
"""Lines that are shown of a log that ends without a message, such as with a traceback."""


def explain(text: str) -> list[str]:
    """What the failed jobs of a run say.

    Args:
        text: Snakemake's own log of the run.

    Returns:
        Lines: each message once, under the rules whose jobs said it; then where the whole logs are.
    """
    said: dict[str, list[str]] = {}
    files: dict[str, Path] = {}
    for rule, block in FAILED.findall(text):
        found = LOGS.search(block)
        paths = [Path(item) for item in found[1].split(", ")] if found else []
        for path in paths:
            if path.is_file() and str(path) not in files:
                files[str(path)] = path
                if path.suffix == ".log":
                    said.setdefault(rule, []).extend(last_words(path))
        said.setdefault(rule, [])
    lines: list[str] = []
    known: set[str] = set()
    for rule, messages in said.items():
        new = [message for message in merged(messages) if message not in known]
        known |= set(new)
        lines += [f"{rule}:", *(f"  {line}" for message in new for line in message.split("\n"))] if new else []
        if not messages:
            lines.append(f"{rule}: ended without a message; was it stopped, or out of memory?")
    shown = list(files)[:LAST]
    more = len(files) - len(shown)
    return [*lines, *(f"Log: {path}" for path in shown), *([f"and {more} more logs"] if more else [])]


def noticed(check: Path) -> list[str]:
    """What the table of `stedm check` says of slides that did not stop the study."""
    try:
        rows = CHECK.read(check).to_dict("records")
    except UserError as error:
        return error.messages
    return merged(f"slide {row['slide']!r} ({row['status']}): {row['problem']}" for row in rows if row["problem"])


def last_words(log: Path) -> list[str]:
    """The messages with which a log ends; of one that ends otherwise, its last lines as one."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    words: list[str] = []
    for line in reversed(lines):
        if LOGGED.match(line):
            break
        words.insert(0, line.rstrip())
    if any(line.startswith("Traceback") for line in words):
        return ["\n".join(words[-LAST:])]
    return words
