"""Self-trade prevention: which orders may not meet, and what each mode takes from whom."""

from __future__ import annotations

from exchanges.simulator.model import NO_ID, Account, Order, StpMode


def effective_mode(taker: Account, taker_mode: StpMode, maker: Order) -> StpMode:
    """The taker's mode rules; a transfer needs two accounts and the maker's consent."""
    if taker_mode is not StpMode.TRANSFER or (maker.stp_mode is StpMode.TRANSFER and taker is not maker.account):
        return taker_mode
    return StpMode.DECREMENT


def is_self_trade(one: Account, other: Account) -> bool:
    return one is other or (one.trade_group_id != NO_ID and one.trade_group_id == other.trade_group_id)


def losses(mode: StpMode, taker: Order, maker: Order, quantity: int) -> tuple[int, int]:
    """What taker and maker lose where `quantity` would have traded."""
    if mode in (StpMode.DECREMENT, StpMode.TRANSFER):
        return quantity, quantity
    return (
        taker.remaining if mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH) else 0,
        maker.remaining if mode in (StpMode.EXPIRE_MAKER, StpMode.EXPIRE_BOTH) else 0,
    )
