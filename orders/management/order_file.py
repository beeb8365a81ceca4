"""A file of orders, CSV or JSON Lines, as arguments of `orders.submit_order`, line by line.

What is wrong with the file as a whole is `BadFile`; what is wrong with one line stays with that line.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orders.intents import FIELDS, REQUIRED

JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
_BY_DEFAULT = frozenset({"account"})  # the command has one for lines that name none


class BadFile(ValueError):
    """The file cannot be read as a list of orders; nothing of it was sent."""


@dataclass(slots=True)
class Line:
    """One order of the file; `problem` says why it is none."""

    number: int
    arguments: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_order_file(path: Path) -> list[Line]:
    """The orders of a file, in UTF-8 with or without a byte order mark; empty lines are passed over."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadFile(error.strerror or type(error).__name__) from None
    except UnicodeDecodeError as error:
        raise BadFile(f"byte {error.start + 1} is not UTF-8 text") from None
    lines = list(_json_lines(text) if _is_json(path, text) else _csv_lines(text))
    if not lines:
        raise BadFile("holds no orders")
    return lines


def _is_json(path: Path, text: str) -> bool:
    return path.suffix.lower() in JSON_SUFFIXES or (path.suffix.lower() != ".csv" and text.lstrip().startswith("{"))


# -- CSV -----------------------------------------------------------------------------------------------------------


def _csv_lines(text: str) -> Iterator[Line]:
    rows = _csv_rows(text)
    number, header = next(rows, (0, []))
    if not header:
        return
    names = [name.strip() for name in header]
    _check_header(number, names)
    for number, cells in rows:
        if len(cells) != len(names):
            yield Line(number, problem=f"has {len(cells)} cells, the header names {len(names)} columns")
        else:
            given = ((name, cell.strip()) for name, cell in zip(names, cells, strict=True))
            yield Line(number, {name: cell for name, cell in given if cell})


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, each with the number of the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise BadFile(f"line {number} is not CSV: {error}") from None
        if any(cell.strip() for cell in cells):
            yield number, cells


def _check_header(number: int, names: list[str]) -> None:
    if len(names) == 1 and names[0].count(";") > 1:
        raise BadFile(f"line {number}: the columns are separated by semicolons, not by commas")
    for name in names:
        if name not in FIELDS:
            raise BadFile(f"line {number}: {_unknown(name)}")
        if names.count(name) > 1:
            raise BadFile(f"line {number}: column {name!r} is there twice")
    for name in REQUIRED:
        if name not in names and name not in _BY_DEFAULT:
            raise BadFile(f"line {number}: column {name!r} is missing")


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower().replace(" ", "_"), FIELDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(FIELDS)}"
    return f"unknown column {name[:64]!r}{hint}"


# -- JSON Lines ----------------------------------------------------------------------------------------------------


def _json_lines(text: str) -> Iterator[Line]:
    # Not splitlines(): U+2028 and the like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _json_line(number, line)


def _json_line(number: int, line: str) -> Line:
    try:
        content = json.loads(line, object_pairs_hook=_without_repeats)
    except RecursionError:
        return Line(number, problem="is nested too deeply")
    except json.JSONDecodeError as error:
        return Line(number, problem=f"is not JSON: {error.msg}, at character {error.colno}")
    except ValueError as error:
        return Line(number, problem=str(error))
    if not isinstance(content, dict):
        return Line(number, problem=f"expected a JSON object, got {type(content).__name__}")
    return Line(number, {name: value for name, value in content.items() if value is not None and value != ""})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:64]}: given twice")
    return found
