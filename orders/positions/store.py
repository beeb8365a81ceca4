"""Keep positions: quantity, cost and result of each symbol, by the rule of `average_cost`.

Adding up a million fills for every look would take too long, so `Position` rows hold the sum of all
fills up to the account's cursor, and a reader adds the few fills since. The cursor advances at most
once a minute, and only over fills that it saw a minute before, for two reasons: a transaction with
a lower fill id may commit later, and a trade that was missed arrives late. So trades that arrive
within that minute are applied in the exchange's order. A trade that arrives later counts from its
arrival, which changes the split into realized and unrealized, never the quantity or the total.

`Position.recent` holds the position with the fills of the last minutes as well, for readers that
can't wait (`today`). It is only a shortcut: `advance_recent` starts again from the cursor when a
late fill makes it wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Max

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.models import ExchangeAccount, Instrument
from exchanges.types import EXACT, Side, plain
from orders.models import Fill, Position, PositionCursor
from orders.positions.average_cost import Holding, Trade, apply_trades, in_order
from orders.positions.fee_prices import fee_price, symbols_for

CHUNK = 20_000
STABLE_AFTER = timedelta(seconds=60)
# Trades of one moment are stored by several workers, so the newest may still be out of order.
RECENT_AFTER = timedelta(seconds=2)
_FILL_COLUMNS = (
    "id",
    "symbol",
    "side",
    "quantity",
    "quote_quantity",
    "commission",
    "commission_asset",
    "traded_at",
    "trade_id",
)
_Trades = dict[str, list[Trade]]  # by symbol


@dataclass(frozen=True, slots=True)
class PositionNow:
    """One position with every fill. Amounts in the quote asset. None: no price is known."""

    symbol: str
    holding: Holding
    last_price: Decimal | None
    priced_at: datetime | None
    fee_prices: Mapping[str, Decimal]

    @property
    def unrealized(self) -> Decimal | None:
        """Return the result of selling everything at the last price."""
        return None if self.last_price is None else self.holding.unrealized(self.last_price)

    @property
    def realized_net(self) -> Decimal | None:
        """Return the realized result less commissions in other assets at their last price."""
        net = self.holding.realized
        for asset, amount in self.holding.fees.items():
            if asset not in self.fee_prices:
                return None
            net = EXACT.subtract(net, EXACT.multiply(amount, self.fee_prices[asset]))
        return net


# -- reading -------------------------------------------------------------------------------------


def positions_of(account: ExchangeAccount) -> list[PositionNow]:
    """Return the account's positions with every fill, by symbol. Always three queries."""
    cursor = PositionCursor.objects.filter(account=account).first()
    rows = {row.symbol: row for row in Position.objects.filter(account=account)}
    trades, _ = _trades_between(account, cursor.folded_fill_id if cursor else 0, None)
    symbols = sorted({*rows, *trades})
    start = _holdings(account, {symbol: rows.get(symbol) for symbol in symbols})
    holdings = _with_trades(start, trades)
    return [_now(symbol, holdings[symbol], rows.get(symbol)) for symbol in symbols]


def _now(symbol: str, holding: Holding, row: Position | None) -> PositionNow:
    if row is None:
        return PositionNow(symbol, holding, None, None, {})
    return PositionNow(symbol, holding, row.last_price, row.priced_at, amounts(row.fee_prices))


def result_of_day(row: Position, day: date) -> tuple[Decimal | None, Decimal | None]:
    """Return the realized result of a UTC day, net, and the unrealized one at the last price.

    Both are as of the last time when the recent fills were added, which is about a minute ago, so
    that a page needs no query for each account. None: a commission or the asset has no price.
    """
    recent = row.recent
    holding = recent_holding(row.base_asset, row.quote_asset, recent) if recent else _holding(row)
    unrealized = None if row.last_price is None else holding.unrealized(row.last_price)
    if holding.day != day:
        return Decimal(0), unrealized
    net, prices = holding.day_realized, amounts(row.fee_prices)
    for asset, amount in holding.day_fees.items():
        if asset not in prices:
            return None, unrealized
        net = EXACT.subtract(net, EXACT.multiply(amount, prices[asset]))
    return net, unrealized


# -- advancing the cursor ------------------------------------------------------------------------


def advance_positions(account: ExchangeAccount) -> dict[str, int]:
    """Add the fills that were there a minute ago to the account's positions.

    Returns their count. The recent positions advance with them, up to the newest fill.
    """
    cursor, _ = PositionCursor.objects.get_or_create(account=account)
    now, folded = clock.now(), 0
    if now - cursor.seen_at >= STABLE_AFTER:
        while cursor.folded_fill_id < cursor.seen_fill_id:
            count = _advance_chunk(account, cursor)
            if count is None:
                return {"folded": folded}  # Another process does it.
            folded += count
    if now - cursor.seen_at >= STABLE_AFTER or not cursor.seen_fill_id:
        # The newest fill of all accounts: an idle account's cursor must not stay behind, or each
        # look would scan the fills of the others since.
        newest = Fill.objects.aggregate(newest=Max("id"))["newest"] or 0
        PositionCursor.objects.filter(pk=cursor.pk, folded_fill_id=cursor.folded_fill_id).update(
            seen_fill_id=newest, seen_at=now
        )
        _make_rows(account, cursor)
        if newest > cursor.folded_fill_id:
            advance_recent(account)
    return {"folded": folded}


def _make_rows(account: ExchangeAccount, cursor: PositionCursor) -> None:
    """Make empty rows for new symbols, so that lists and prices have them from the first trade."""
    unfolded = Fill.objects.filter(account=account, id__gt=cursor.folded_fill_id).order_by()
    known = Position.objects.filter(account=account).values_list("symbol", flat=True)
    new = set(unfolded.values_list("symbol", flat=True).distinct()) - set(known)
    holdings = _holdings(account, dict.fromkeys(new))
    Position.objects.bulk_create(
        [
            Position(account=account, symbol=symbol, **_columns(holding))
            for symbol, holding in holdings.items()
        ],
        ignore_conflicts=True,
    )


def _advance_chunk(account: ExchangeAccount, cursor: PositionCursor) -> int | None:
    """Add the next fills to the rows, all or nothing. None if another process was faster."""
    with transaction.atomic():
        trades, last_id = _trades_between(
            account, cursor.folded_fill_id, cursor.seen_fill_id, limit=CHUNK
        )
        until = last_id or cursor.seen_fill_id
        unchanged = PositionCursor.objects.filter(
            pk=cursor.pk, folded_fill_id=cursor.folded_fill_id
        )
        # The recent positions started from the old cursor, so they are void.
        if not unchanged.update(folded_fill_id=until, recent_fill_id=until, recent_count=0):
            return None
        start = _holdings(account, _rows(account, trades))
        _upsert(account, _with_trades(start, trades), _columns)
    cursor.folded_fill_id = until
    return sum(map(len, trades.values()))


# -- the recent positions ------------------------------------------------------------------------


def advance_recent(account: ExchangeAccount) -> None:
    """Add the new fills to `Position.recent`, except those of the last `RECENT_AFTER`.

    Does nothing while another process does it.
    """
    with transaction.atomic():
        cursors = PositionCursor.objects.select_for_update(skip_locked=True)
        cursor = cursors.filter(account=account).first()
        if cursor is None:
            return
        start = max(cursor.recent_fill_id, cursor.folded_fill_id)
        until = _last_ordered_fill(account, start)
        trades, last_id = _trades_between(account, start, until, limit=CHUNK)
        if _is_late(cursor, trades):
            Position.objects.filter(account=account).update(recent=None)
            cursor.recent_count, start = 0, cursor.folded_fill_id
            trades, last_id = _trades_between(account, start, until, limit=CHUNK)
        elif not trades:
            return
        _store_recent(account, cursor.folded_fill_id, trades)
        cursor.recent_fill_id = last_id or start
        cursor.recent_count += sum(map(len, trades.values()))
        cursor.recent_traded_at = max(_times(trades), default=None)
        cursor.save(update_fields=["recent_fill_id", "recent_count", "recent_traded_at"])


def _last_ordered_fill(account: ExchangeAccount, start: int) -> int | None:
    """Return the id before the first fill that was traded just now. None if there is none."""
    fresh = Fill.objects.filter(
        account=account, id__gt=start, traded_at__gt=clock.now() - RECENT_AFTER
    )
    first = fresh.order_by("id").values_list("id", flat=True).first()
    return None if first is None else first - 1


def _is_late(cursor: PositionCursor, trades: _Trades) -> bool:
    """Return True if a fill is missing in the recent positions, or a new one is out of order."""
    if cursor.recent_fill_id <= cursor.folded_fill_id:
        return False  # They hold no fill.
    known = Fill.objects.filter(
        account=cursor.account_id,
        id__gt=cursor.folded_fill_id,
        id__lte=cursor.recent_fill_id,
    )
    if known.count() != cursor.recent_count:
        return True
    latest = cursor.recent_traded_at
    return latest is not None and bool(trades) and min(_times(trades)) <= latest


def _times(trades: _Trades) -> list[datetime]:
    return [trade.traded_at for each in trades.values() for trade in each]


def _store_recent(account: ExchangeAccount, start: int, trades: _Trades) -> None:
    rows = _rows(account, trades)
    holdings = _holdings(account, rows)
    for symbol, row in rows.items():
        if row is not None and row.recent is not None and row.recent["start"] == start:
            holdings[symbol] = recent_holding(row.base_asset, row.quote_asset, row.recent)
    _upsert(account, _with_trades(holdings, trades), partial(_recent_columns, start))


def _recent_columns(start: int, holding: Holding) -> dict[str, Any]:
    """Return the holding as `recent_holding` reads it. Void if the cursor is not at `start`."""
    recent = {
        "start": start,
        "quantity": plain(holding.quantity),
        "cost": plain(holding.cost),
        "day": holding.day.isoformat() if holding.day else None,
        "day_realised": plain(holding.day_realized),
        "day_fees": _texts(holding.day_fees),
    }
    return {
        "base_asset": holding.base_asset,
        "quote_asset": holding.quote_asset,
        "recent": recent,
    }


def recent_holding(base_asset: str, quote_asset: str, recent: Mapping[str, Any]) -> Holding:
    """Return the holding of a `Position.recent`: without `realized`, `fees` and `trades`."""
    return Holding(
        base_asset=base_asset,
        quote_asset=quote_asset,
        quantity=Decimal(recent["quantity"]),
        cost=Decimal(recent["cost"]),
        day=date.fromisoformat(recent["day"]) if recent["day"] else None,
        day_realized=Decimal(recent["day_realised"]),
        day_fees=amounts(recent["day_fees"]),
    )


# -- fills and rows ------------------------------------------------------------------------------


def _trades_between(
    account: ExchangeAccount, after: int, until: int | None, *, limit: int | None = None
) -> tuple[_Trades, int]:
    """Return the trades stored after one fill id up to another, and their last id (or 0)."""
    fills = Fill.objects.filter(account=account, id__gt=after).order_by("id")
    if until is not None:
        fills = fills.filter(id__lte=until)
    trades: _Trades = defaultdict(list)
    last_id = 0
    now = clock.now()
    for fill_id, symbol, side, *values in fills.values_list(*_FILL_COLUMNS)[:limit]:
        trades[symbol].append(Trade(Side(side), *values).not_after(now))
        last_id = fill_id
    return trades, last_id


def _rows(account: ExchangeAccount, symbols: Iterable[str]) -> dict[str, Position | None]:
    """Return the row of each symbol, or None."""
    found = Position.objects.filter(account=account, symbol__in=[*symbols])
    return {**dict.fromkeys(symbols), **{row.symbol: row for row in found}}


def _upsert(
    account: ExchangeAccount,
    holdings: Mapping[str, Holding],
    columns: Callable[[Holding], dict[str, Any]],
) -> None:
    """Write the columns of these holdings, into new rows where there is none."""
    if not holdings:
        return
    rows = {symbol: columns(holding) for symbol, holding in holdings.items()}
    Position.objects.bulk_create(
        [Position(account=account, symbol=symbol, **values) for symbol, values in rows.items()],
        update_conflicts=True,
        unique_fields=["account", "symbol"],
        update_fields=list(next(iter(rows.values()))),
    )


def _holdings(account: ExchangeAccount, rows: Mapping[str, Position | None]) -> dict[str, Holding]:
    """Return the rows' holdings, and empty ones for symbols without a row.

    A symbol without an instrument counts as its own asset, without a quote asset.
    """
    unknown = [symbol for symbol, row in rows.items() if row is None]
    assets = (
        {
            each.symbol: (each.base_asset, each.quote_asset)
            for each in _instruments(account, unknown)
        }
        if unknown
        else {}
    )
    return {
        symbol: Holding(*assets.get(symbol, (symbol, ""))) if row is None else _holding(row)
        for symbol, row in rows.items()
    }


def _with_trades(holdings: Mapping[str, Holding], trades: _Trades) -> dict[str, Holding]:
    return {
        symbol: apply_trades(holding, in_order(trades.get(symbol, ())))
        for symbol, holding in holdings.items()
    }


def _instruments(account: ExchangeAccount, symbols: Iterable[str]) -> Iterable[Instrument]:
    return Instrument.objects.filter(
        exchange=account.exchange, environment=account.environment, symbol__in=list(symbols)
    )


def _holding(row: Position) -> Holding:
    return Holding(
        base_asset=row.base_asset,
        quote_asset=row.quote_asset,
        quantity=row.quantity,
        cost=row.cost,
        realized=row.realized,
        fees=amounts(row.fees),
        trades=row.trades,
        day=row.day,
        day_realized=row.day_realized,
        day_fees=amounts(row.day_fees),
    )


def _columns(holding: Holding) -> dict[str, Any]:
    return {
        "base_asset": holding.base_asset,
        "quote_asset": holding.quote_asset,
        "quantity": holding.quantity,
        "cost": holding.cost,
        "realized": holding.realized,
        "fees": _texts(holding.fees),
        "trades": holding.trades,
        "day": holding.day,
        "day_realized": holding.day_realized,
        "day_fees": _texts(holding.day_fees),
    }


def amounts(texts: Mapping[str, str]) -> dict[str, Decimal]:
    """Return amounts by asset from their stored form."""
    return {asset: Decimal(text) for asset, text in texts.items()}


def _texts(by_asset: Mapping[str, Decimal]) -> dict[str, str]:
    return {asset: plain(amount) for asset, amount in by_asset.items()}


# -- prices --------------------------------------------------------------------------------------


def refresh_prices(account: ExchangeAccount) -> int:
    """Fetch the last prices of the positions and of their commissions' assets.

    Returns the number of updated positions. The newest fills count, too: their commissions belong
    to the loss of today.
    """
    cursor, _ = PositionCursor.objects.get_or_create(account=account)
    _make_rows(account, cursor)
    rows = list(Position.objects.filter(account=account))
    fees = _fee_assets(rows, cursor)
    wanted = {row.symbol for row in rows}
    for row in rows:
        for asset in fees[row.symbol]:
            wanted |= symbols_for(asset, row.quote_asset)
    instruments = _instruments(account, wanted)
    known = sorted(each.symbol for each in instruments if each.status == "TRADING")
    if not known:
        return 0
    prices, now = get_gateway(account).fetch_last_prices(known), clock.now()
    return sum(_store_prices(row, fees[row.symbol], prices, now) for row in rows)


def _fee_assets(rows: Iterable[Position], cursor: PositionCursor) -> dict[str, set[str]]:
    """Return the assets of commissions by symbol, other than its own two assets."""
    unfolded = Fill.objects.filter(account=cursor.account_id, id__gt=cursor.folded_fill_id)
    recent: dict[str, set[str]] = defaultdict(set)
    for symbol, asset in unfolded.order_by().values_list("symbol", "commission_asset").distinct():
        recent[symbol].add(asset)
    return {
        row.symbol: {*row.fees, *recent[row.symbol]} - {row.base_asset, row.quote_asset, ""}
        for row in rows
    }


def _store_prices(
    row: Position, fees: Iterable[str], prices: Mapping[str, Decimal], now: datetime
) -> int:
    """Store the new prices. An old one keeps its time, so it is never shown as new."""
    changes: dict[str, Any] = {}
    if row.symbol in prices:
        changes = {"last_price": prices[row.symbol], "priced_at": now}
    found = {
        asset: price
        for asset in fees
        if (price := fee_price(asset, row.quote_asset, prices.get)) is not None
    }
    # The last known price is better than none.
    fee_prices = {**row.fee_prices, **_texts(found)}
    return Position.objects.filter(pk=row.pk).update(fee_prices=fee_prices, **changes)
