"""Merge one message about an attempt with our state of it, by one rule for every source. Pure.

Reports come from place answers, the stream, queries, lists and trades: late, twice, in any order.
A merge only moves forward: a status of a later stage wins, a filled quantity never falls, a trade
counts once. So the result doesn't depend on the order of messages, and an old one undoes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal

from exchanges.types import EXACT, ExchangeStatus, FillReport, OrderReport

ZERO = Decimal(0)

# The stage of an order's life that each status of the exchange stands for. A refusal comes first:
# if the exchange shows an order after refusing it, the order exists, so any other status wins.
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
_SHOWN = 2  # From this stage on, the exchange has the order.
_ENDED = 4


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The exchange's merged statements about a request. No `quantity` if it was given in quote."""

    exchange_status: str = ""
    quantity: Decimal | None = None
    filled_quantity: Decimal = ZERO
    filled_quote_quantity: Decimal = ZERO
    fills_quantity: Decimal = ZERO
    fills_quote_quantity: Decimal = ZERO
    is_pending: bool = False  # Sent or possibly sent, and without an answer.
    is_lost: bool = False  # A person has given it up: the exchange never reports it.

    @property
    def is_shown(self) -> bool:
        return STAGE[self.exchange_status] >= _SHOWN

    @property
    def is_alive(self) -> bool:
        return self.is_shown and not self.is_ended and not self.is_lost

    @property
    def is_ended(self) -> bool:
        return STAGE[self.exchange_status] >= _ENDED

    @property
    def is_refused(self) -> bool:
        return self.exchange_status == ExchangeStatus.REJECTED

    @property
    def has_fill_gap(self) -> bool:
        return self.fills_quantity < self.filled_quantity


@dataclass(frozen=True, slots=True)
class Merge:
    """The merged state, the new trades, and an unknown status if there was one (it only opens a
    break).
    """

    state: AttemptState
    new_fills: tuple[FillReport, ...]
    unknown_status: str = ""


def merge_report(
    known: AttemptState,
    *,
    known_trade_ids: Collection[str],
    report: OrderReport | None,
    fills: Iterable[FillReport],
) -> Merge:
    """Merge `known` with one message: an order report, or only trades (`report=None`)."""
    new_fills = _new_fills(known_trade_ids, fills)
    fills_quantity = _sum(known.fills_quantity, (fill.quantity for fill in new_fills))
    fills_quote = _sum(known.fills_quote_quantity, (fill.quote_quantity for fill in new_fills))
    filled = max(known.filled_quantity, fills_quantity, report.filled_quantity if report else ZERO)
    said = report.status if report else ""
    if said == ExchangeStatus.REJECTED and not (known.is_pending or known.is_lost):
        # We already know that it was not executed, and the code that found out has decided on the
        # next step, perhaps to send it again.
        said = ""
    word, unknown = _stage_word(known.exchange_status, said)
    state = replace(
        known,
        exchange_status=_with_fills(word, filled, known.quantity),
        filled_quantity=filled,
        filled_quote_quantity=_filled_quote(known, report, filled, fills_quantity, fills_quote),
        fills_quantity=fills_quantity,
        fills_quote_quantity=fills_quote,
    )
    says_something = bool(new_fills) or (report is not None and not unknown)
    return Merge(
        replace(
            state,
            is_pending=known.is_pending and not state.exchange_status,
            is_lost=known.is_lost and not says_something,
        ),
        new_fills,
        unknown,
    )


def average_price(filled_quantity: Decimal, filled_quote_quantity: Decimal) -> Decimal | None:
    """Return quote divided by base, rounded to 18 decimals. None before the first fill."""
    if filled_quantity <= 0 or filled_quote_quantity <= 0:
        return None
    return EXACT.divide(filled_quote_quantity, filled_quantity).quantize(
        Decimal("1e-18"), context=EXACT
    )


def _new_fills(
    known_trade_ids: Collection[str], fills: Iterable[FillReport]
) -> tuple[FillReport, ...]:
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
    """Return the status that the trades prove: partially filled, or filled if complete."""
    if filled <= 0:
        return word
    if quantity is not None and filled >= quantity:
        return ExchangeStatus.FILLED
    return (
        ExchangeStatus.PARTIALLY_FILLED
        if STAGE[word] < STAGE[ExchangeStatus.PARTIALLY_FILLED]
        else word
    )


def _filled_quote(
    known: AttemptState,
    report: OrderReport | None,
    filled: Decimal,
    fills_quantity: Decimal,
    fills_quote: Decimal,
) -> Decimal:
    """Return the quote amount of `filled`, from the source that has exactly that quantity."""
    if (
        report is not None
        and report.filled_quantity == filled
        and report.filled_quote_quantity is not None
    ):
        return report.filled_quote_quantity
    if fills_quantity == filled:
        return fills_quote
    return known.filled_quote_quantity
