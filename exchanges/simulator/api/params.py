"""Read request parameters as strictly as the exchange, with the documented code per refusal.

A parameter arrives as text, from a query, a form body or a JSON object. Reading never guesses: text
outside of the documented alphabet is -1100, empty text -1105, and a missing parameter -1102.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import unquote_plus

import orjson

from exchanges.simulator import errors
from exchanges.simulator.errors import ApiError

MAX_RECV_WINDOW_MS = 60_000
DEFAULT_RECV_WINDOW_MS = 5_000
MAX_INTEGER = 2**63 - 1
# A decimal must fit into a signed 64-bit integer of units (1e-8).
PLACES = 8
# A timestamp from here on is in microseconds. In milliseconds it would be after the year 5000.
MICROSECONDS_FROM = 10**14

_SYMBOL = re.compile(r"(?:(?![a-z])[\w\-.]){1,50}")
_INTEGER = re.compile(r"[0-9]{1,20}")
_DECIMAL = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?")
_RECV_WINDOW = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,3})?")
_CLIENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_EMPTY_CODES = {
    "newClientOrderId": (-1118, "New client order ID was empty."),
    "origClientOrderId": (-1119, "Original client order ID was empty."),
}


def parse_pairs(text: str) -> dict[str, str]:
    """Return the parameters of one query string or form body. Raise if a name comes twice."""
    values: dict[str, str] = {}
    if not text:
        return values
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            name, value = unquote_plus(name), unquote_plus(value)
        if name in values:
            raise errors.duplicate_values()
        values[name] = value
    return values


def merge_pairs(query: str, body: str) -> dict[str, str]:
    """Merge query and body. For a name in both, the query wins."""
    if not body:
        return parse_pairs(query)
    values = parse_pairs(body)
    if query:
        values.update(parse_pairs(query))
    return values


def json_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Return WebSocket API parameters as the signed text: `true`, `5000`, `0.10`.

    The frame reader kept the literals.
    """
    return {name: _json_text(name, value) for name, value in params.items()}


def _json_text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value is None:
        raise errors.missing(name)
    if isinstance(value, list):
        return orjson.dumps(value).decode()
    raise errors.invalid_data(name)


@dataclass(frozen=True, slots=True)
class Timing:
    """Hold the time and the validity of a signed request, in microseconds."""

    timestamp_us: int
    recv_window_us: int

    def check(self, now_us: int, *, on_receipt: bool) -> None:
        """Check the timestamp.

        On receipt a time in the future is refused, too. Before the engine only the age counts.
        """
        if on_receipt and self.timestamp_us >= now_us + 1_000_000:
            raise errors.ahead_of_server()
        if now_us - self.timestamp_us > self.recv_window_us:
            raise errors.outside_recv_window()


class Params:
    """Read the parameters of one request."""

    __slots__ = ("values",)

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def check_names(self, known: frozenset[str], *, signed: bool) -> None:
        """Raise if the request has a name that isn't `known`."""
        if self.values.keys() <= known:
            return
        sent = len(self.values)
        read = sum(1 for name in self.values if name in known)
        raise errors.unread(read, sent) if signed else errors.too_many_parameters(len(known), sent)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value == "":
            code = _EMPTY_CODES.get(name)
            raise ApiError(*code) if code else errors.empty(name)
        return value

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise errors.missing(name)
        return value

    def symbol(self) -> str | None:
        value = self.text("symbol")
        if value is not None and not _SYMBOL.fullmatch(value):
            raise errors.illegal_characters("symbol", errors.SYMBOL_RANGE)
        return value

    def required_symbol(self) -> str:
        value = self.symbol()
        if value is None:
            raise errors.missing("symbol")
        return value

    def symbols(self, name: str = "symbols") -> list[str] | None:
        """Read a JSON array of symbols or, for `permissions`, of names."""
        value = self.text(name)
        if value is None:
            return None
        if not value.startswith("["):
            raise errors.illegal_characters(name, errors.SYMBOLS_RANGE)
        try:
            names = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise errors.invalid_json(name) from error
        if not all(isinstance(item, str) and _SYMBOL.fullmatch(item) for item in names):
            raise errors.illegal_characters(name, errors.SYMBOLS_RANGE)
        if not names:
            raise errors.missing(name)
        if len(set(names)) != len(names):
            raise ApiError(-1151, "Symbol is present multiple times in the list.")
        return list(names)

    def integer(self, name: str, *, maximum: int = MAX_INTEGER) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise errors.illegal_characters(name, errors.INTEGER_RANGE)
        number = int(value)
        if number > maximum:
            raise errors.overflowed(name)
        return number

    def limit(self, default: int, maximum: int) -> int:
        """Read a row count, and cap it at the maximum."""
        value = self.integer("limit")
        if value is None:
            return default
        if value == 0:
            raise errors.invalid_data("limit")
        return min(value, maximum)

    def time_ms(self, name: str) -> int | None:
        """Read a moment in milliseconds. One in microseconds is rounded down."""
        value = self.integer(name)
        if value is None:
            return None
        return value // 1000 if value >= MICROSECONDS_FROM else value

    def units(self, name: str, label: str | None = None) -> int | None:
        """Read a positive decimal in units of 1e-8. Zero is `Invalid <label>.` (-1013)."""
        value = self.text(name)
        if value is None:
            return None
        match = _DECIMAL.fullmatch(value)
        if match is None:
            raise errors.illegal_characters(name, errors.DECIMAL_RANGE)
        whole, fraction = match[1], match[2] or ""
        if len(fraction) > PLACES:
            fraction = fraction.rstrip("0")
            if len(fraction) > PLACES:
                raise errors.too_precise(name)
        number = int(whole + fraction.ljust(PLACES, "0"))
        if number > MAX_INTEGER:
            raise errors.overflowed(name)
        if number == 0:
            raise ApiError(-1013, f"Invalid {label or name}.")
        return number

    def client_id(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and not _CLIENT_ID.fullmatch(value):
            raise errors.illegal_characters(name, errors.CLIENT_ID_RANGE)
        return value

    def choice(
        self, name: str, allowed: Iterable[str], refusal: ApiError | None = None
    ) -> str | None:
        value = self.text(name)
        if value is not None and value not in allowed:
            raise refusal or errors.invalid_data(name)
        return value

    def boolean(self, name: str, default: bool) -> bool:
        value = self.text(name)
        if value is None:
            return default
        lowered = value.lower()
        if lowered not in ("true", "false"):
            raise errors.illegal_characters(name, "^(true|false)$")
        return lowered == "true"

    def timing(self) -> Timing:
        """Read `timestamp` (ms or µs) and `recvWindow` (ms, up to three decimals)."""
        text = self.required_text("timestamp")
        if not _INTEGER.fullmatch(text):
            raise errors.illegal_characters("timestamp", errors.INTEGER_RANGE)
        stamp = int(text)
        if stamp > MAX_INTEGER:
            raise errors.overflowed("timestamp")
        return Timing(
            timestamp_us=stamp if stamp >= MICROSECONDS_FROM else stamp * 1000,
            recv_window_us=self._recv_window_us(),
        )

    def _recv_window_us(self) -> int:
        text = self.text("recvWindow")
        if text is None:
            return DEFAULT_RECV_WINDOW_MS * 1000
        if not _RECV_WINDOW.fullmatch(text):
            raise errors.illegal_characters("recvWindow", errors.RECV_WINDOW_RANGE)
        window = Decimal(text)
        if window > MAX_RECV_WINDOW_MS:
            raise ApiError(-1131, "'recvWindow' must be less than 60000.")
        return int(window * 1000)
