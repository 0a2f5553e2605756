"""A document as Markdown and as a page: what looks like markup is text."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stedm.report.document import Heading, Picture, Table, Text, markdown, web_page

HOSTILE = "<script>alert('x')</script> | `a` *b* [c](d)\n# e &lt; </td>"


@pytest.fixture
def blocks(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    rows = pd.DataFrame({"arm": ["real", HOSTILE], "mean ↑": ["0.500 (0.4–0.6)", "–"]})
    return [
        Heading(HOSTILE),
        Text("p < 0.001", strong=True),
        Table(rows, "Better is higher."),
        Picture(tmp_path / "a.png", HOSTILE, HOSTILE),
    ]


def test_the_page_needs_no_other_file_and_runs_nothing(blocks):
    page = web_page(HOSTILE, blocks)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert '<td class="number">0.500 (0.4–0.6)</td>' in page
    assert page.count("</td>") == 4
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "http" not in page


def test_markdown_tables_have_aligned_columns_and_long_names_go_on_in_the_next_line(blocks, tmp_path):
    text = markdown(blocks, tmp_path)
    lines = text.splitlines()
    escaped = r"\<script>alert('x')\</script> \| \`a\` \*b\* \[c\](d) \# e \&lt; \</td>"
    assert lines[0] == f"## {escaped}"
    assert lines[2] == "**p < 0.001**"
    head, rule, real, hostile, more = lines[4:9]
    assert len({len(head), len(rule), len(real), len(hostile), len(more)}) == 1
    (start, missing), (rest, nothing) = ([cell.strip() for cell in line.split(" | ")] for line in (hostile, more))
    assert f"{start} {rest.removeprefix('| ')}" == f"| {escaped}"
    assert (missing, nothing) == ("– |", "|")
    assert rule.endswith("-:|")
    assert lines[-1] == f"{escaped}: a.png"


def test_pictures_are_found_from_the_folder_of_the_text(blocks, tmp_path):
    assert markdown(blocks[-1:], tmp_path / "other").rstrip().endswith(": ../a.png")
    assert Path(blocks[-1].path).exists()
