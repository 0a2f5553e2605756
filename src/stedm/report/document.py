"""A document of a few kinds of blocks, as Markdown and as a web page that needs no other file.

All texts are plain: what looks like markup in them is shown as it is.
"""

import base64
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose values are text; the first column names the rows."""

    rows: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    path: Path
    """A PNG file."""
    title: str
    caption: str


Block = Heading | Text | Table | Picture

LABEL = 40
"""Characters of the first column in a terminal; longer names go on in the next line."""
NUMBER = re.compile(r"[-+−–<\d]")
"""How a value begins that is a number, or missing."""
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 68rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 0.5rem; }
h1 { margin-top: 0.5rem; }
p { max-width: 48rem; margin: 0.5rem 0; }
p.strong { font-size: 1.15rem; font-weight: 600; }
figure { margin: 1rem 0; overflow-x: auto; }
figcaption { color: #555; font-size: 0.875rem; max-width: 48rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.8rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #444; font-weight: 600; vertical-align: bottom; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; min-width: 11rem; overflow-wrap: anywhere; }
</style>
</head>
<body>
{% for kind, block in blocks %}
{%- if kind == "Heading" %}
<h{{ block.level }}>{{ block.text }}</h{{ block.level }}>
{%- elif kind == "Text" %}
<p{% if block.strong %} class="strong"{% endif %}>{{ block.text }}</p>
{%- elif kind == "Table" %}
<figure>
<table>
<thead><tr>
{%- for name, class in columns(block.rows) %}<th scope="col" class="{{ class }}">{{ name }}</th>{% endfor -%}
</tr></thead>
<tbody>
{%- for row in block.rows.to_numpy().tolist() %}
<tr>{% for value in row %}<td class="{{ columns(block.rows)[loop.index0][1] }}">{{ value }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody>
</table>
<figcaption>{{ block.caption }}</figcaption>
</figure>
{%- else %}
<figure>
<img alt="{{ block.title }}" src="data:image/png;base64,{{ encoded(block.path) }}">
<figcaption>{{ block.title }}. {{ block.caption }}</figcaption>
</figure>
{%- endif %}
{%- endfor %}
</body>
</html>
"""


def web_page(title: str, blocks: Sequence[Block]) -> str:
    """The document as HTML, its pictures in it."""
    template = Environment(autoescape=True).from_string(PAGE)
    return template.render(
        title=title,
        blocks=[(type(block).__name__, block) for block in blocks],
        columns=columns,
        encoded=lambda path: base64.b64encode(path.read_bytes()).decode(),
    )


def markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The document as Markdown that can be read as it is, pictures as links from this folder."""
    return "\n\n".join(part for block in blocks for part in parts(block, folder)) + "\n"


def parts(block: Block, folder: Path) -> list[str]:
    """The paragraphs of a block."""
    match block:
        case Heading():
            return [f"{'#' * block.level} {plain(block.text)}"]
        case Text():
            return [f"**{plain(block.text)}**" if block.strong else plain(block.text)]
        case Table():
            return [aligned(block.rows), *([plain(block.caption)] if block.caption else [])]
        case Picture():
            return [f"{plain(block.title)}: {Path(os.path.relpath(block.path, folder)).as_posix()}"]


def aligned(rows: pd.DataFrame) -> str:
    """A table with its columns padded, long names in several lines."""
    padded = []
    lines = [line for row in rows.to_numpy().tolist() for line in lines_of(*row)]
    for (name, kind), *values in zip(columns(rows), *lines, strict=True):
        texts = [plain(text) for text in (name, *values)]
        width = max(map(len, texts))
        rule = "-" * (width + 1) + ("-" if kind == "text" else ":")
        cells = [text.ljust(width) if kind == "text" else text.rjust(width) for text in texts]
        padded.append([f" {cells[0]} ", rule, *(f" {cell} " for cell in cells[1:])])
    return "\n".join(f"|{'|'.join(line)}|" for line in zip(*padded, strict=True))


def lines_of(name: str, *values: str) -> list[list[str]]:
    """A row of a table, as several rows where its name is long."""
    first, *others = textwrap.wrap(name, LABEL) or [""]
    return [[first, *values], *([more] + [""] * len(values) for more in others)]


def columns(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Name of each column, and whether it is text or number."""
    return [
        (name, "number" if all(NUMBER.match(value) for value in rows.iloc[:, place]) else "text")
        for place, name in enumerate(rows.columns)
    ]


def plain(text: str) -> str:
    """A text in one line in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]|#~]|<(?=[A-Za-z/!?])|&(?=[#\w]+;))", r"\\\1", " ".join(text.split()))
