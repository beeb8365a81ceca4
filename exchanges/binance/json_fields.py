"""Read the fields and rows of Binance's JSON exactly, and set unreadable rows apart. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from exchanges.types import Rows, Side, Unreadable, from_ms

# Our columns hold 20 digits before the point.
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?\Z")
_MOST_DIGITS, _MOST_DECIMALS = 20, 30
# Our columns hold 18 digits behind the point. A rounded figure would differ from the next reading.
_SURPLUS_DECIMALS = re.compile(r"\.[0-9]{18}0*[1-9]")
_WHOLE = re.compile(r"-?[0-9]{1,19}\Z")


# The widths of our columns. A test holds them equal to the models.
CLIENT_ORDER_ID_WIDTH = 64


SYMBOL_WIDTH = 32


ASSET_WIDTH = 32


WORD_WIDTH = 32  # of a status or an order type


TIME_IN_FORCE_WIDTH = 8


REASON_WIDTH = 64


SUBJECT_WIDTH = 128


_TEXT_WIDTH = 4_000


_DIGEST_WIDTH = 16


_END_OF_TIME_MS = 4_102_444_800_000  # the year 2100


_FIRST_MICROSECOND = 10**15  # the year 2001


T = TypeVar("T")


class Malformed(ValueError):
    """A message contradicts the documentation, or is about something else than we asked for."""


class JsonObject:
    """Read one JSON object of the exchange, field by field."""

    __slots__ = ("fields",)

    def __init__(self, message: Any, what: str) -> None:
        if not isinstance(message, dict):
            raise Malformed(f"{what}: not an object but {type(message).__name__}")
        self.fields: dict[str, Any] = message

    def text(self, name: str) -> str:
        """Read a non-empty string."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise Malformed(f"{name}: not a text but {shown(value)}")
        return value

    def name_text(self, name: str, width: int) -> str:
        """Return a non-empty string that names something, so it can't be cut."""
        value = self.text(name)
        if len(value) > width:
            raise Malformed(f"{name}: longer than {width}: {shown(value)}")
        return value

    def text_or_empty(self, name: str) -> str:
        """Read a string. Absent and null are empty."""
        value = self.fields.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise Malformed(f"{name}: not a text but {shown(value)}")
        return value

    def identifier(self, name: str) -> str:
        """Read a number that only identifies, as text."""
        return str(self.integer(name))

    def number_text(self, name: str) -> str:
        """Read the number of an order. One that never got on the book may have -1."""
        return "" if self.integer(name) < 0 else self.identifier(name)

    def integer(self, name: str) -> int:
        """Read a whole number, written as a number or as a text."""
        value = self.fields.get(name)
        if isinstance(value, str) and _WHOLE.match(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Malformed(f"{name}: not a whole number but {shown(value)}")
        if not -(2**63) <= value < 2**63:
            raise Malformed(f"{name}: too large: {shown(value)}")
        return value

    def boolean(self, name: str) -> bool:
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise Malformed(f"{name}: neither true nor false but {shown(value)}")
        return value

    def boolean_or_none(self, name: str) -> bool | None:
        """Read true or false. Absent and null are none."""
        return None if self.fields.get(name) is None else self.boolean(name)

    def figure(self, name: str) -> Decimal:
        """Read a decimal that is not negative."""
        value = self.signed(name)
        if value < 0:
            raise Malformed(f"{name}: negative: {value}")
        return value

    def positive(self, name: str) -> Decimal:
        """Read a decimal that is more than zero, such as a price."""
        value = self.figure(name)
        if not value:
            raise Malformed(f"{name}: zero")
        return value

    def signed(self, name: str) -> Decimal:
        """Read a decimal of either sign, written as a text or as a number."""
        value = self.fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)  # a number with a point is a text already
        if not isinstance(value, str) or not _DECIMAL.match(value):
            raise Malformed(f"{name}: not a decimal text but {shown(value)}")
        if "e" in value or "E" in value:
            number = Decimal(value)
            decimals = -int(number.as_tuple().exponent)
            if (number and number.adjusted() >= _MOST_DIGITS) or decimals > _MOST_DECIMALS:
                raise Malformed(f"{name}: not a decimal text but {shown(value)}")
            value = f"{number:f}"
        if _SURPLUS_DECIMALS.search(value):
            raise Malformed(f"{name}: more decimals than we store: {shown(value)}")
        return Decimal(value)

    def signed_or_none(self, name: str) -> Decimal | None:
        """Read a decimal of either sign. Absent and null are none."""
        return None if self.fields.get(name) is None else self.signed(name)

    def positive_or_none(self, name: str) -> Decimal | None:
        """Read a decimal where absent and zero mean that the order has none."""
        if self.fields.get(name) is None:
            return None
        return self.figure(name) or None

    def time(self, name: str) -> datetime:
        """Read the time of a moment that one can count from."""
        return from_ms(self.milliseconds(name))

    def milliseconds(self, name: str) -> int:
        """Read milliseconds since the epoch. The exchange may write microseconds."""
        value = self.integer(name)
        if _FIRST_MICROSECOND <= value < _END_OF_TIME_MS * 1000:
            value //= 1000
        if not -1 <= value < _END_OF_TIME_MS:  # the exchange writes -1 for none
            raise Malformed(f"{name}: not a time: {value}")
        return value

    def time_of_first(self, *names: str) -> datetime:
        """Read the first of these times that is there."""
        for name in names:
            if (found := self.time_or_none(name)) is not None:
                return found
        return self.time(names[0])

    def time_or_none(self, name: str) -> datetime | None:
        """Read a time where absent, zero and -1 mean that there is none."""
        if self.fields.get(name) is None or self.integer(name) in (0, -1):
            return None
        return self.time(name)

    def side(self, name: str) -> Side:
        value = self.text(name)
        try:
            return Side(value)
        except ValueError:
            raise Malformed(f"{name}: not a side: {shown(value)}") from None

    def objects(self, name: str) -> list[JsonObject]:
        return json_objects(self.fields.get(name), name)


def read_rows(
    body: Any, what: str, read: Callable[[JsonObject], T], named: Callable[[Any], str]
) -> Rows[T]:
    """Read each element of a JSON array, and set apart those that can't be read.

    `named` names an element in its symbol's or asset's words. It returns "" if it can't.
    """
    if not isinstance(body, list):
        raise Malformed(f"{what}: not a list but {type(body).__name__}")
    rows: list[T] = []
    unreadable: list[Unreadable] = []
    for number, item in enumerate(body):
        try:
            rows.append(read(JsonObject(item, what)))
        except Malformed as problem:
            subject = named(item) or f"{what} row {number}"
            unreadable.append(Unreadable(subject[:SUBJECT_WIDTH], str(problem), _row_text(item)))
    return Rows(rows, unreadable)


def _row_text(item: Any) -> str:
    return json.dumps(item, ensure_ascii=True, default=str)[:_TEXT_WIDTH]


def numbered(symbol: str, number: str) -> str:
    """Return the name of an order in breaks: its symbol and the exchange's number of it."""
    return f"{symbol}#{number}"


def named_by(*names: str) -> Callable[[Any], str]:
    """Return a function that names a row by these fields, if it has them all."""

    def named(item: Any) -> str:
        fields = item if isinstance(item, dict) else {}
        values = [fields.get(name) for name in names]
        if not all(type(value) in (str, int) and value != "" for value in values):
            return ""
        return "#".join(map(str, values))

    return named


def id_text(text: str, width: int) -> str:
    """Return an id that fits its column. A long one ends in a digest, so that it stays unique."""
    if len(text) <= width:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_WIDTH // 2).hexdigest()
    return f"{text[: width - _DIGEST_WIDTH - 1]}~{digest}"


def json_objects(body: Any, what: str) -> list[JsonObject]:
    """Read a JSON array of objects."""
    if not isinstance(body, list):
        raise Malformed(f"{what}: not a list but {type(body).__name__}")
    return [JsonObject(item, what) for item in body]


def shown(value: Any) -> str:
    """Shorten a value of a foreign message for a log line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
