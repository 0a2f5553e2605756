"""Study files that Snakemake would take for templates, and whose Python it would run.

It reads them before the Snakefile, but after the profile. So our profiles call `refuse_templates`, and the Snakefile
does for the default study, which it names itself.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stedm.config.study import read
from stedm.errors import UserError

KEY = "__use_yte__"


def refuse_templates(words: Sequence[str] | None = None) -> None:
    """End this process where a study file on a command line of Snakemake (this process's own) is a template, or cannot
    be read as a configuration."""
    try:
        for path in configfiles(sys.argv if words is None else words):
            if path.exists() and read(path).get(KEY):
                raise UserError(
                    f"{path}: is a template ({KEY}), whose Python Snakemake would run; take the key out if the file is"
                    " a study, and do not use it if you did not write it"
                )
    except UserError as error:
        sys.exit("\n".join(error.messages))


def configfiles(words: Sequence[str]) -> Iterator[Path]:
    """The files that follow `--configfile` or `--configfiles`, which may be shortened."""
    inside = False
    for word in words:
        if word.startswith("-"):
            name, equals, word = word.partition("=")
            inside = name.startswith("--configf")
            if not equals:
                continue
        if inside:
            yield Path(word)
