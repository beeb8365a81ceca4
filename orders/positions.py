"""Positions: what an account holds by its trades, at what cost, and with what result. The rule is `holdings.py`'s.

A million fills are not read again for every look: `Position` rows hold the fold up to the account's cursor, and a look
adds the few fills since. The cursor moves on once a minute at most, and only over fills that it had seen the time
before, for two reasons: a transaction that drew a lower number may commit later, and a trade that was missed comes
late. So trades are put in the exchange's order as far as they arrive within that minute of each other; one that comes
later still counts from its arrival, which changes how the result is split into realised and unrealised, never the
quantity or the total.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Max

from exchanges import clock
from exchanges.gateway import get_gateway
from exchanges.models import ExchangeAccount, Instrument
from exchanges.types import EXACT, Side, plain
from orders.holdings import Holding, Trade, fold, in_order
from orders.models import Fill, Position, PositionCursor

CHUNK = 20_000
SETTLED_AFTER = timedelta(seconds=60)
_FILL_FIGURES = (
    *("id", "symbol", "side", "quantity", "quote_quantity", "commission", "commission_asset", "traded_at", "trade_id"),
)
_Trades = dict[str, list[Trade]]  # by symbol


@dataclass(frozen=True, slots=True)
class PositionNow:
    """One position with every fill; figures in the quote asset. None: no price is known."""

    symbol: str
    holding: Holding
    last_price: Decimal | None
    priced_at: datetime | None
    fee_prices: Mapping[str, Decimal]

    @property
    def unrealised(self) -> Decimal | None:
        return None if self.last_price is None else self.holding.unrealised(self.last_price)

    @property
    def realised_net(self) -> Decimal | None:
        """The realised result less commissions in other assets at their last price."""
        net = self.holding.realised
        for asset, amount in self.holding.fees.items():
            if asset not in self.fee_prices:
                return None
            net = EXACT.subtract(net, EXACT.multiply(amount, self.fee_prices[asset]))
        return net


# -- reading -------------------------------------------------------------------------------------------------------


def positions_of(account: ExchangeAccount) -> list[PositionNow]:
    """The account's positions as of this moment, by symbol: three queries, however many fills there are."""
    cursor = PositionCursor.objects.filter(account=account).first()
    rows = {row.symbol: row for row in Position.objects.filter(account=account)}
    trades, _ = _trades_between(account, cursor.folded_fill_id if cursor else 0, None)
    symbols = sorted({*rows, *trades})
    holdings = _folded(account, {symbol: rows.get(symbol) for symbol in symbols}, trades)
    return [_now(symbol, holdings[symbol], rows.get(symbol)) for symbol in symbols]


def _now(symbol: str, holding: Holding, row: Position | None) -> PositionNow:
    prices = {asset: Decimal(price) for asset, price in row.fee_prices.items()} if row else {}
    return PositionNow(symbol, holding, row.last_price if row else None, row.priced_at if row else None, prices)


# -- moving the cursor ---------------------------------------------------------------------------------------------


def fold_settled(account: ExchangeAccount) -> dict[str, int]:
    """Move the account's cursor over the fills that were there a minute ago; returns how many were folded."""
    cursor, _ = PositionCursor.objects.get_or_create(account=account)
    now, folded = clock.now(), 0
    if now - cursor.seen_at >= SETTLED_AFTER:
        while cursor.folded_fill_id < cursor.seen_fill_id:
            count = _fold_chunk(account, cursor)
            if count is None:
                return {"folded": folded}  # another process does it
            folded += count
    if now - cursor.seen_at >= SETTLED_AFTER or not cursor.seen_fill_id:
        # Of all accounts: one that does not trade must not have to pass over the others' fills again and again.
        newest = Fill.objects.aggregate(newest=Max("id"))["newest"] or 0
        PositionCursor.objects.filter(pk=cursor.pk, folded_fill_id=cursor.folded_fill_id).update(
            seen_fill_id=newest, seen_at=now
        )
        _make_rows(account, cursor)
    return {"folded": folded}


def _make_rows(account: ExchangeAccount, cursor: PositionCursor) -> None:
    """Empty rows for symbols that are new, so that lists show them (and prices are asked for) from the first trade."""
    unfolded = Fill.objects.filter(account=account, id__gt=cursor.folded_fill_id).order_by()
    known = Position.objects.filter(account=account).values_list("symbol", flat=True)
    new = set(unfolded.values_list("symbol", flat=True).distinct()) - set(known)
    holdings = _folded(account, dict.fromkeys(new), {})
    Position.objects.bulk_create(
        [Position(account=account, symbol=symbol, **_columns(holding)) for symbol, holding in holdings.items()],
        ignore_conflicts=True,
    )


def _fold_chunk(account: ExchangeAccount, cursor: PositionCursor) -> int | None:
    """Fold the next fills into the rows, all or nothing; None where another process was faster."""
    with transaction.atomic():
        trades, last_id = _trades_between(account, cursor.folded_fill_id, cursor.seen_fill_id, limit=CHUNK)
        until = last_id or cursor.seen_fill_id
        moved = PositionCursor.objects.filter(pk=cursor.pk, folded_fill_id=cursor.folded_fill_id)
        if not moved.update(folded_fill_id=until):
            return None
        rows = {row.symbol: row for row in Position.objects.filter(account=account, symbol__in=[*trades])}
        for symbol, holding in _folded(account, {symbol: rows.get(symbol) for symbol in trades}, trades).items():
            Position.objects.update_or_create(account=account, symbol=symbol, defaults=_columns(holding))
    cursor.folded_fill_id = until
    return sum(map(len, trades.values()))


def _trades_between(
    account: ExchangeAccount, after: int, until: int | None, *, limit: int | None = None
) -> tuple[_Trades, int]:
    """Trades by symbol, as stored after one fill id up to another, and the last of these ids (0: none)."""
    fills = Fill.objects.filter(account=account, id__gt=after).order_by("id")
    if until is not None:
        fills = fills.filter(id__lte=until)
    trades: _Trades = defaultdict(list)
    last_id = 0
    for fill_id, symbol, side, *figures in fills.values_list(*_FILL_FIGURES)[:limit]:
        trades[symbol].append(Trade(Side(side), *figures))
        last_id = fill_id
    return trades, last_id


def _folded(account: ExchangeAccount, rows: Mapping[str, Position | None], trades: _Trades) -> dict[str, Holding]:
    """The rows' holdings with these trades. A symbol of which we know no instrument is its own asset, in no other."""
    unknown = [symbol for symbol, row in rows.items() if row is None]
    assets = {i.symbol: (i.base_asset, i.quote_asset) for i in _instruments(account, unknown)} if unknown else {}
    holdings = {}
    for symbol, row in rows.items():
        start = _holding(row) if row is not None else Holding(*assets.get(symbol, (symbol, "")))
        holdings[symbol] = fold(start, in_order(trades.get(symbol, ())))
    return holdings


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
        realised=row.realised,
        fees={asset: Decimal(amount) for asset, amount in row.fees.items()},
        trades=row.trades,
        day=row.day,
        day_realised=row.day_realised,
        day_fees={asset: Decimal(amount) for asset, amount in row.day_fees.items()},
    )


def _columns(holding: Holding) -> dict[str, Any]:
    return {
        "base_asset": holding.base_asset,
        "quote_asset": holding.quote_asset,
        "quantity": holding.quantity,
        "cost": holding.cost,
        "realised": holding.realised,
        "fees": {asset: plain(amount) for asset, amount in holding.fees.items()},
        "trades": holding.trades,
        "day": holding.day,
        "day_realised": holding.day_realised,
        "day_fees": {asset: plain(amount) for asset, amount in holding.day_fees.items()},
    }


# -- prices --------------------------------------------------------------------------------------------------------


def refresh_prices(account: ExchangeAccount) -> int:
    """Ask for the last prices of what is held and of what commissions were paid in; how many positions have one."""
    rows = list(Position.objects.filter(account=account))
    wanted = {row.symbol for row in rows}
    wanted |= {asset + row.quote_asset for row in rows for asset in row.fees}
    known = {instrument.symbol for instrument in _instruments(account, wanted) if instrument.status == "TRADING"}
    if not known:
        return 0
    prices, now = get_gateway(account).fetch_last_prices(sorted(known)), clock.now()
    priced = 0
    for row in rows:
        fee_prices = {asset: prices[name] for asset in row.fees if (name := asset + row.quote_asset) in prices}
        priced += Position.objects.filter(pk=row.pk).update(
            last_price=prices.get(row.symbol, row.last_price),
            fee_prices={asset: plain(price) for asset, price in fee_prices.items()},
            priced_at=now,
        )
    return priced


__all__ = ["PositionNow", "fold_settled", "positions_of", "refresh_prices"]
