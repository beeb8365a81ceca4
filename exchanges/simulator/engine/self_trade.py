"""Prevent self-trades: decide which orders may not meet and how much each mode takes from them."""

from __future__ import annotations

from collections import deque

from exchanges.simulator.engine.enums import StpMode
from exchanges.simulator.engine.types import NO_ID, Account, Order, PreventedMatch

MATCHES_KEPT = 5_000


def prevention_mode(taker: Account, taker_mode: StpMode, maker: Order) -> StpMode:
    """Return the mode that applies between the two, or `StpMode.NONE` when they may trade.

    The taker's mode wins. A transfer also needs two accounts and the maker's consent, and falls
    back to DECREMENT without them.
    """
    other = maker.account
    group = taker.trade_group_id
    may_trade = taker is not other and (group == NO_ID or group != other.trade_group_id)
    if may_trade or taker_mode is StpMode.NONE:
        return StpMode.NONE
    if taker_mode is not StpMode.TRANSFER or (
        maker.stp_mode is StpMode.TRANSFER and taker is not other
    ):
        return taker_mode
    return StpMode.DECREMENT


def losses(mode: StpMode, taker: Order, maker: Order, quantity: int) -> tuple[int, int]:
    """Return the quantities that taker and maker lose where `quantity` would have traded."""
    if mode in (StpMode.DECREMENT, StpMode.TRANSFER):
        return quantity, quantity
    return (
        taker.remaining if mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH) else 0,
        maker.remaining if mode in (StpMode.EXPIRE_MAKER, StpMode.EXPIRE_BOTH) else 0,
    )


class PreventedMatches:
    """Number and keep the prevented matches of one symbol."""

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.kept: deque[PreventedMatch] = deque(maxlen=MATCHES_KEPT)
        self.last_id = NO_ID

    def record(
        self, taker: Order, maker: Order, *, mode: StpMode, quantity: int, now: int
    ) -> PreventedMatch:
        """Record that `quantity` did not trade. Must run before the orders lose anything."""
        taker_loss, maker_loss = losses(mode, taker, maker, quantity)
        self.last_id += 1
        match = PreventedMatch(
            symbol=self.symbol,
            prevented_match_id=self.last_id,
            taker_order_id=taker.order_id,
            maker_order_id=maker.order_id,
            taker_account_id=taker.account_id,
            maker_account_id=maker.account_id,
            trade_group_id=taker.account.trade_group_id,
            stp_mode=mode,
            price=maker.price,
            taker_prevented_quantity=taker_loss or None,
            maker_prevented_quantity=maker_loss or None,
            time=now,
        )
        self.kept.append(match)
        return match
