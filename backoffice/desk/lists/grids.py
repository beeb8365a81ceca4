"""Find the grids of the instruments on a page, with one query for all its rows."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

from backoffice.desk.lists.numbers import UNKNOWN, Grid, grid_of
from exchanges.mirror.money import money_assets
from exchanges.models import ExchangeAccount, Instrument


def attach_grids(rows: Iterable[Any]) -> list[Any]:
    """Set `row.grid` of each row by its account and symbol, and return the rows as a list.

    The rows come with `select_related("account")`. A symbol without an instrument gets `UNKNOWN`.
    """
    found = list(rows)
    grids = _grids({(row.account.exchange, row.account.environment, row.symbol) for row in found})
    for row in found:
        row.grid = grids.get((row.account.exchange, row.account.environment, row.symbol), UNKNOWN)
    return found


def grid_for(account: ExchangeAccount, symbol: str) -> Grid:
    """Return the grid of one symbol on an account's exchange, with a query."""
    key = (account.exchange, account.environment, symbol)
    return _grids({key}).get(key, UNKNOWN)


def _grids(keys: set[tuple[str, str, str]]) -> dict[tuple[str, str, str], Grid]:
    if not keys:
        return {}
    exchanges, environments, symbols = (set(parts) for parts in zip(*keys, strict=True))
    instruments = Instrument.objects.filter(
        exchange__in=exchanges, environment__in=environments, symbol__in=symbols
    )
    money = {place: money_assets(*place) for place in product(exchanges, environments)}
    return {
        (one.exchange, one.environment, one.symbol): grid_of(
            one.rules, money_assets=money[one.exchange, one.environment]
        )
        for one in instruments
    }
