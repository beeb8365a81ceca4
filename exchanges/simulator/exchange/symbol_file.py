"""Read the symbols of the exchange from a file: an answer of exchangeInfo, with first prices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from exchanges.simulator.engine.filters import compile_filters
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import EngineError, units


class SymbolFileError(Exception):
    """Signal a file that names no symbols. The message names the entry and its fault."""


@dataclass(frozen=True, slots=True)
class SymbolFile:
    """Keep the symbols, and the first prices of those that have one."""

    symbols: tuple[SymbolSpec, ...]
    prices: dict[str, int]


def read_symbol_file(path: Path) -> SymbolFile:
    """Read `{"symbols": [...]}` as exchangeInfo writes it, or the list alone.

    Each entry may have a `price` of its own, with which its market starts. Raises SymbolFileError.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SymbolFileError(str(error)) from error
    rows = data.get("symbols") if isinstance(data, dict) else data
    if not isinstance(rows, list) or not rows:
        raise SymbolFileError("it has no list of symbols")
    symbols: dict[str, SymbolSpec] = {}
    prices: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        spec = _spec(row, number)
        if spec.symbol in symbols:
            raise SymbolFileError(f"symbol {number}: {spec.symbol} comes twice")
        symbols[spec.symbol] = spec
        if "price" in row:
            prices[spec.symbol] = _price(row["price"], spec)
    return SymbolFile(tuple(symbols.values()), prices)


def _spec(row: Any, number: int) -> SymbolSpec:
    try:
        spec = SymbolSpec.from_exchange_info(row)
        compile_filters(spec.filters)
    except KeyError as error:
        raise SymbolFileError(f"symbol {number}: {error.args[0]} is missing") from error
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise SymbolFileError(f"symbol {number}: {error}") from error
    return spec


def _price(value: Any, spec: SymbolSpec) -> int:
    """Return the price in units. It is positive, on the tick and inside the symbol's limits."""
    try:
        price = Decimal(value) if isinstance(value, str) else None
        found = 0 if price is None or not price.is_finite() else units(price)
    except (InvalidOperation, ValueError):
        found = 0
    try:
        compile_filters(spec.filters).price.check(found)
    except EngineError:
        found = 0
    if found <= 0:
        raise SymbolFileError(f"{spec.symbol}: its filters allow no price {value!r}")
    return found
