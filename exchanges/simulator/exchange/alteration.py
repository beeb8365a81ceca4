"""Alter one row of an answer or of an event, so that it is hard to read.

An answer is a list of rows, or an object. Of an object with a list of `symbols` or `balances`, or
an event with balances (`B`), the rows of that list count. Any other object is itself the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LISTS = ("symbols", "balances", "B")


@dataclass(frozen=True, slots=True)
class Alteration:
    """Describe a change of rows.

    It applies to every row that has the values of `where`, or to the row at the index `row` if
    `where` is empty. `values` replaces values, `append` adds to lists, `remove` drops keys.
    """

    row: int = 0
    where: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    append: Mapping[str, Any] = field(default_factory=dict)
    remove: Sequence[str] = ()

    def apply(self, body: Any) -> Any:
        """Return the altered body, and leave the given one alone."""
        if isinstance(body, list):
            return self._rows(body)
        if not isinstance(body, dict):
            return body
        for name in LISTS:
            if isinstance(body.get(name), list):
                return body | {name: self._rows(body[name])}
        return self._rows([body])[0]

    def _rows(self, rows: list[Any]) -> list[Any]:
        return [
            self._altered(row) if self._selects(index, row) else row
            for index, row in enumerate(rows)
        ]

    def _selects(self, index: int, row: Any) -> bool:
        if not isinstance(row, dict):
            return False
        if not self.where:
            return index == self.row
        return all(name in row and row[name] == value for name, value in self.where.items())

    def _altered(self, row: dict[str, Any]) -> dict[str, Any]:
        made = {name: value for name, value in row.items() if name not in self.remove}
        for name, value in self.append.items():
            made[name] = [*made.get(name, ()), value]
        return made | dict(self.values)
