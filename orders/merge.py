"""One rule for every report: what we know of an attempt, joined with what a message says of it.

Pure. Reports come from the place answer, the stream, queries, lists and trades, late, twice and in any order. The join
only moves forward: a status of a later stage wins, a filled quantity never falls, a trade counts once. So the result
does not depend on the order in which messages arrive, and an old answer cannot undo a newer one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from exchanges.types import EXACT, ExchangeStatus, FillReport, OrderReport
from orders.states import OrderStatus

ZERO = Decimal(0)

# How far along an order is when the exchange uses this word. A refusal comes first: an order that the exchange shows
# after it had "refused" it is there, so anything it shows weighs more.
STAGE: dict[str, int] = {
    "": 0,
    ExchangeStatus.REJECTED: 1,
    ExchangeStatus.PENDING_NEW: 2,
    ExchangeStatus.NEW: 2,
    ExchangeStatus.PENDING_CANCEL: 2,
    ExchangeStatus.PARTIALLY_FILLED: 3,
    ExchangeStatus.EXPIRED: 4,
    ExchangeStatus.EXPIRED_IN_MATCH: 4,
    ExchangeStatus.CANCELED: 4,
    ExchangeStatus.FILLED: 5,
}
_SHOWN = 2  # from this stage on, the exchange has the order
_ENDED = 4


@dataclass(frozen=True, slots=True)
class AttemptState:
    """What we know of one request from the exchange's own words. `quantity` is None where it was given in quote."""

    exchange_status: str = ""
    quantity: Decimal | None = None
    filled_quantity: Decimal = ZERO
    filled_quote_quantity: Decimal = ZERO
    fills_quantity: Decimal = ZERO
    fills_quote_quantity: Decimal = ZERO
    is_pending: bool = False  # sent or possibly sent, and nothing known yet

    @property
    def is_shown(self) -> bool:
        return STAGE[self.exchange_status] >= _SHOWN

    @property
    def is_alive(self) -> bool:
        return _SHOWN <= STAGE[self.exchange_status] < _ENDED

    @property
    def has_fill_gap(self) -> bool:
        return self.fills_quantity < self.filled_quantity


@dataclass(frozen=True, slots=True)
class Merge:
    """The joined state, the trades that are new, and a status word that we do not know (kept, never acted on)."""

    state: AttemptState
    new_fills: tuple[FillReport, ...]
    unknown_status: str = ""


def merge_report(
    known: AttemptState, *, known_trade_ids: Collection[str], report: OrderReport | None, fills: Iterable[FillReport]
) -> Merge:
    """Join `known` with one message: an order report, or trades alone (`report=None`)."""
    new_fills = _new_fills(known_trade_ids, fills)
    fills_quantity = _sum(known.fills_quantity, (fill.quantity for fill in new_fills))
    fills_quote = _sum(known.fills_quote_quantity, (fill.quote_quantity for fill in new_fills))
    filled = max(known.filled_quantity, fills_quantity, report.filled_quantity if report else ZERO)
    word, unknown = _stage_word(known.exchange_status, report.status if report else "")
    state = replace(
        known,
        exchange_status=_with_fills(word, filled, known.quantity),
        filled_quantity=filled,
        filled_quote_quantity=_filled_quote(known, report, filled, fills_quantity, fills_quote),
        fills_quantity=fills_quantity,
        fills_quote_quantity=fills_quote,
    )
    return Merge(replace(state, is_pending=known.is_pending and not state.exchange_status), new_fills, unknown)


def settle(current: OrderStatus, attempts: Sequence[AttemptState]) -> OrderStatus:
    """The order's status from what is known of its attempts; our own verdict (`current`) where nothing is known.

    Normally one attempt counts. Two live ones are an accident that the caller mends; until then the order is open.
    """
    shown = [attempt for attempt in attempts if attempt.is_shown]
    if not shown:
        refused = bool(attempts) and attempts[-1].exchange_status == ExchangeStatus.REJECTED
        return OrderStatus.REJECTED if refused else current
    if any(attempt.is_alive for attempt in shown):
        return OrderStatus.PARTIALLY_FILLED if any(a.filled_quantity for a in shown) else OrderStatus.NEW
    if any(attempt.exchange_status == ExchangeStatus.FILLED for attempt in shown):
        return OrderStatus.FILLED
    if any(attempt.is_pending for attempt in attempts):
        return OrderStatus.PENDING_NEW
    if shown[-1].exchange_status == ExchangeStatus.CANCELED:
        return OrderStatus.CANCELED
    return OrderStatus.EXPIRED


def average_price(filled_quantity: Decimal, filled_quote_quantity: Decimal) -> Decimal | None:
    """Quote divided by base, rounded to 18 decimals; None before the first fill."""
    if filled_quantity <= 0 or filled_quote_quantity <= 0:
        return None
    return EXACT.divide(filled_quote_quantity, filled_quantity).quantize(Decimal("1e-18"), context=EXACT)


def _new_fills(known_trade_ids: Collection[str], fills: Iterable[FillReport]) -> tuple[FillReport, ...]:
    unique = {fill.trade_id: fill for fill in fills if fill.quantity > 0}
    return tuple(fill for trade_id, fill in unique.items() if trade_id not in known_trade_ids)


def _sum(start: Decimal, values: Iterable[Decimal]) -> Decimal:
    for value in values:
        start = EXACT.add(start, value)
    return start


def _stage_word(known: str, said: str) -> tuple[str, str]:
    if said not in STAGE:
        return known, said
    return (said, "") if STAGE[said] > STAGE[known] else (known, "")


def _with_fills(word: str, filled: Decimal, quantity: Decimal | None) -> str:
    """A trade is evidence, too: it makes a working order partially filled and a complete one filled."""
    if filled <= 0:
        return word
    if quantity is not None and filled >= quantity:
        return ExchangeStatus.FILLED
    return ExchangeStatus.PARTIALLY_FILLED if STAGE[word] < STAGE[ExchangeStatus.PARTIALLY_FILLED] else word


def _filled_quote(
    known: AttemptState,
    report: OrderReport | None,
    filled: Decimal,
    fills_quantity: Decimal,
    fills_quote: Decimal,
) -> Decimal:
    """The quote amount that belongs to `filled`, from whichever source has that very quantity."""
    if report is not None and report.filled_quantity == filled and report.filled_quote_quantity is not None:
        return report.filled_quote_quantity
    if fills_quantity == filled:
        return fills_quote
    return known.filled_quote_quantity
