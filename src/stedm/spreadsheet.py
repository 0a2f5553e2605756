"""CSV files as spreadsheet programs write them."""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from stedm.errors import UserError

SEPARATORS = ",;\t"
DECLARED = re.compile(r'"?sep=(.)"?[,;\t]*\r?\n', re.IGNORECASE)
"""A first line that only Excel understands."""
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How .xlsx and .ods files start, and .xls files."""
LARGEST = 2**26
"""Bytes of a file: a million rows."""
MOST_COLUMNS = 1000
REMEDY = "save it as CSV (UTF-8) in your spreadsheet program"


class Row(NamedTuple):
    """A row with its line in the file, from 1, and its stripped values by column; missing values are ""."""

    line: int
    cells: dict[str, str]


def read_csv(path: Path, known: Collection[str]) -> tuple[Row, list[Row]]:
    """Header and rows of a CSV file, without empty rows and without empty columns that have no name.

    Values are separated by what a first line `sep=;` declares, or else by commas, semicolons or tabs: by whichever
    separates most of the known columns in the header. UTF-8, or UTF-16 with a byte order mark.

    Args:
        path: of the file.
        known: names of columns.

    Raises:
        UserError: the file is not CSV, two columns have one name, or a value has no column.
    """
    text = read_text(path)
    declared = DECLARED.match(text)
    start = declared.end() if declared else 0
    separator = declared[1] if declared else detect_separator(text, known)
    (line, names), *others = read_cells(path, text[start:], separator, 2 if declared else 1) or [(1, [])]
    if len(names) > MOST_COLUMNS:
        raise UserError(f"{path}, line {line}: has {len(names):,} columns; is it the right file?")
    if twice := {name for name in names if name and names.count(name) > 1}:
        raise UserError(f"{path}, line {line}: the column {min(twice)!r} appears twice; keep one of them")
    rows, problems = [], []
    for number, values in others:
        cells = list(itertools.zip_longest(names, values, fillvalue=""))
        rows.append(Row(number, {name: value for name, value in cells if name}))
        if alien := [value for name, value in cells if value and not name]:
            problems.append(
                f"{path}, line {number}: the value {alien[0]!r} has no column; name its column in line {line}, or,"
                f" if a value contains the separator {separator!r}, put that value in double quotes"
            )
    if problems:
        raise UserError(problems)
    return Row(line, {name: name for name in names if name}), rows


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        UserError: it is not text, or cannot be read.
    """
    try:
        if (size := path.stat().st_size) > LARGEST:
            raise UserError(
                f"{path}: has {size / 2**20:,.0f} MiB, more than any table of slides; is it the right file?"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as CSV: {error.strerror}") from error
    if data.startswith(WORKBOOKS):
        raise UserError(f"{path}: cannot be read as CSV: it is a workbook; {REMEDY}")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: cannot be read as CSV: it is not UTF-8; {REMEDY}") from error
    if "\0" in text:
        raise UserError(f"{path}: cannot be read as CSV: it is not text in UTF-8; {REMEDY}")
    return text


def detect_separator(text: str, known: Collection[str]) -> str:
    """The separator that finds most of the known columns in the first line that is not empty."""
    header = text.lstrip("\r\n,;").partition("\n")[0]
    found = {each: {name.strip(' "\r') for name in header.split(each)} & set(known) for each in SEPARATORS}
    return max(SEPARATORS, key=lambda each: len(found[each]))


def read_cells(path: Path, text: str, separator: str, line: int) -> list[tuple[int, list[str]]]:
    """Stripped values of each row that has any, with its line; `line` is that of the first row."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    while True:
        number = line + reader.line_num
        try:
            values = [value.strip() for value in next(reader)]
        except StopIteration:
            return rows
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: not CSV: {error}; is a quotation mark wrong?") from error
        if any(values):
            rows.append((number, values))
