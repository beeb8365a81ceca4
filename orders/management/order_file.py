"""Read a file of orders, CSV or JSON Lines, as arguments of `orders.submit_order`, line by line.

A problem of the whole file raises `BadFile`. A problem of one line is stored with that line.
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
_BY_DEFAULT = frozenset({"account"})  # The command has a default for lines without one.


class BadFile(ValueError):
    """The file cannot be read as a list of orders. Nothing of it was sent."""


@dataclass(slots=True)
class Line:
    """One line of the file. It is a valid order if `problem` is empty."""

    number: int
    arguments: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_order_file(path: Path) -> list[Line]:
    """Return the orders of a UTF-8 file, with or without a byte order mark. Skips empty lines.

    Raises `BadFile` if it isn't a list of orders.
    """
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
    return path.suffix.lower() in JSON_SUFFIXES or (
        path.suffix.lower() != ".csv" and text.lstrip().startswith("{")
    )


# -- CSV -----------------------------------------------------------------------------------------


def _csv_lines(text: str) -> Iterator[Line]:
    rows = _csv_rows(text)
    number, header = next(rows, (0, []))
    if not header:
        return
    names = [name.strip() for name in header]
    _check_header(number, names)
    for number, cells in rows:
        if len(cells) != len(names):
            yield Line(
                number, problem=f"has {len(cells)} cells, the header names {len(names)} columns"
            )
        else:
            given = ((name, cell.strip()) for name, cell in zip(names, cells, strict=True))
            yield Line(number, {name: cell for name, cell in given if cell})


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that aren't empty, each with the number of its first line."""
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


# -- JSON Lines ----------------------------------------------------------------------------------


def _json_lines(text: str) -> Iterator[Line]:
    # Not splitlines(): a JSON string may contain U+2028 and similar characters.
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
    return Line(
        number,
        {name: value for name, value in content.items() if value is not None and value != ""},
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:64]}: given twice")
    return found
