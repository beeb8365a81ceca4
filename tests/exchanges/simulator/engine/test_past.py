"""Compare the made-up past with its own trades, and its seam with the live market."""

from __future__ import annotations

import pickle
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import astuple, replace
from functools import cache
from itertools import pairwise

import pytest

from exchanges.simulator.api.candles import INTERVAL_SECONDS
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS as DEFAULTS
from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.filters import compile_filters
from exchanges.simulator.engine.past import DAY, MINUTE, SECOND
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import SCALE, Bar, PublicTrade, units
from exchanges.simulator.exchange.market_maker import DEFAULT_PRICES
from tests.exchanges.simulator.engine.desk import PLAIN, START, Desk

SYMBOL = "AAABBB"
PRICE = units("100")
#: 22:13:20, so that neither minute, hour nor day ends at the start.
DAYS = 1
COUNT = DAYS * 5760
ALL = 10**9


def with_past(seed: int = 1, now: int = START, days: int = DAYS) -> Desk:
    """Return a desk whose market has a past, and no live trade yet."""
    desk = Desk()
    desk.now = now
    desk.engine.give_past(SYMBOL, price=PRICE, days=days, seed=seed)
    return desk


@cache
def traded(seed: int = 1) -> Desk:
    """Return the same with its first price, and some minutes of live trades. Tests only read it."""
    return trade(with_past(seed))


def trade(desk: Desk) -> Desk:
    desk.engine.set_price(SYMBOL, PRICE)
    for number in range(300):
        desk.later(1)
        desk.engine.print_trade(
            SYMBOL, PRICE + number % 7 * units("0.01"), units("1"), buyer_is_maker=number % 3 == 0
        )
    return desk


@cache
def every_bar(seconds: int, seed: int = 1) -> list[Bar]:
    return traded(seed).engine.bars(SYMBOL, seconds, limit=ALL)


def every_trade(engine: Engine) -> list[PublicTrade]:
    """Page through all trades as a client does."""
    found: list[PublicTrade] = []
    while page := engine.recent_trades(SYMBOL, 1000, found[-1].trade_id + 1 if found else 1):
        found += page
    return found


def summed(trades: Iterable[PublicTrade], seconds: int) -> list[Bar]:
    """Sum up trades with other code than the simulator's."""
    groups: dict[int, list[PublicTrade]] = {}
    for trade in trades:
        groups.setdefault(trade.time // (seconds * SECOND), []).append(trade)
    return [
        Bar(
            opened_at=number * seconds * SECOND,
            open=group[0].price,
            high=max(trade.price for trade in group),
            low=min(trade.price for trade in group),
            close=group[-1].price,
            volume=sum(trade.quantity for trade in group),
            quote_volume=sum(trade.quote_quantity for trade in group),
            trades=len(group),
            taker_buy_volume=sum(trade.quantity for trade in group if not trade.buyer_is_maker),
            taker_buy_quote_volume=sum(
                trade.quote_quantity for trade in group if not trade.buyer_is_maker
            ),
            first_trade_id=group[0].trade_id,
            last_trade_id=group[-1].trade_id,
        )
        for number, group in groups.items()
    ]


def test_past__ids_without_gaps_and_times_in_order() -> None:
    trades = every_trade(traded().engine)
    assert [trade.trade_id for trade in trades] == list(range(1, COUNT + 302))
    assert all(one.time <= two.time for one, two in pairwise(trades))
    past = trades[:COUNT]
    assert START - DAYS * DAY <= past[0].time < START - DAYS * DAY + 15 * SECOND
    assert past[-1].time < START
    assert past[-1].price == PRICE
    assert trades[COUNT].time == START


#: Limits that the walk and the quantities would cross, and that are not on the step.
NARROW = replace(
    PLAIN,
    filters=(
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "99.995",
            "maxPrice": "100.015",
            "tickSize": "0.01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.0005", "maxQty": "50.0005", "stepSize": "0.001"},
    ),
)


@pytest.mark.parametrize(
    ("spec", "price"),
    [(PLAIN, PRICE), (NARROW, PRICE), *((each, DEFAULT_PRICES[each.symbol]) for each in DEFAULTS)],
    ids=lambda value: value.symbol if isinstance(value, SymbolSpec) else "",
)
def test_past__prices_and_quantities_keep_to_the_filters(spec: SymbolSpec, price: int) -> None:
    engine = Desk(spec).engine
    engine.give_past(spec.symbol, price=price, days=1, seed=1)
    filters = compile_filters(spec.filters)
    trades = engine.recent_trades(spec.symbol, COUNT, 1)
    assert len(trades) == COUNT
    for trade in trades:
        filters.price.check(trade.price)
        filters.lot.check(trade.quantity)
        assert price // 2 < trade.price < price * 2
        assert trade.quantity > 0
        assert trade.quote_quantity == trade.price * trade.quantity // SCALE


def test_past__moves() -> None:
    closes = {bar.close for bar in with_past().engine.bars(SYMBOL, 3600, limit=24)}
    assert len(closes) > 20


def test_past__is_the_same_for_the_same_seed_whenever_it_starts() -> None:
    def figures(desk: Desk) -> list[tuple[int, ...]]:
        return [
            (trade.trade_id, trade.price, trade.quantity, desk.now - trade.time)
            for trade in every_trade(desk.engine)
        ]

    once = figures(with_past(seed=1))
    assert figures(with_past(seed=1, now=START + 12_345_678)) == once
    assert figures(with_past(seed=2)) != once


def test_past__is_the_same_whichever_part_is_asked_first() -> None:
    one, two = with_past().engine, with_past().engine
    late = one.recent_trades(SYMBOL, 10)
    early = one.recent_trades(SYMBOL, 10, 1)
    assert two.recent_trades(SYMBOL, 10, 1) == early
    assert two.recent_trades(SYMBOL, 10) == late


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("seconds", sorted({*INTERVAL_SECONDS.values()} - {0, 1}))
def test_bars__equal_the_sums_of_the_trades(seconds: int, seed: int) -> None:
    engine = traded(seed).engine
    bars = every_bar(seconds, seed)
    assert bars == summed(every_trade(engine), seconds)
    assert all(two.opened_at - one.opened_at == seconds * SECOND for one, two in pairwise(bars))


@pytest.mark.long
def test_bars__of_a_second_have_no_hole_and_stay_at_the_price_between_trades() -> None:
    engine = traded().engine
    bars = every_bar(1)
    assert all(two.opened_at - one.opened_at == SECOND for one, two in pairwise(bars))
    assert [bar for bar in bars if bar.trades] == summed(every_trade(engine), 1)
    for one, two in pairwise(bars):
        if not two.trades:
            assert two == Bar.opening(two.opened_at, one.close)


def test_bars__of_an_interrupted_second_have_both_parts() -> None:
    desk = with_past()
    minute = desk.engine.bars(SYMBOL, 60, limit=1)[0]
    desk.engine.set_price(SYMBOL, PRICE)
    whole = desk.engine.bars(SYMBOL, 60, limit=1)[0]
    assert whole.opened_at == minute.opened_at == START - START % MINUTE
    assert whole.trades == minute.trades + 1
    assert whole.last_trade_id == COUNT + 1
    assert desk.engine.bars(SYMBOL, 1, limit=1)[0].first_trade_id == COUNT + 1


@pytest.mark.parametrize("seconds", [1, 60, 300, 3600])
@pytest.mark.parametrize("limit", [1, 7, 500])
def test_bars__start_end_and_limit_cut_the_same_list(seconds: int, limit: int) -> None:
    engine = traded().engine
    every = every_bar(seconds)
    opened = [bar.opened_at for bar in every]
    first, last = every[0].opened_at, every[-1].opened_at
    moments = [
        0,
        first - 1,
        first,
        first + 1,
        START - 7 * MINUTE - 1,
        START - START % MINUTE,
        START,
        START + 90 * SECOND,
        last,
        last + 1,
        START + DAY,
    ]
    for start in [None, *moments]:
        for end in [None, *moments]:
            between = every[
                0 if start is None else bisect_left(opened, start) : len(every)
                if end is None
                else bisect_right(opened, end)
            ]
            expected = between[:limit] if start is not None else between[-limit:]
            found = engine.bars(SYMBOL, seconds, start=start, end=end, limit=limit)
            assert found == expected, (start, end)


@pytest.mark.parametrize("limit", [1, 10, 1000])
def test_aggregate_trades__start_end_and_limit_cut_the_same_list(limit: int) -> None:
    engine = traded().engine
    every = engine.aggregate_trades(SYMBOL, from_id=1, limit=ALL)
    trades = every_trade(engine)
    assert [trade.aggregate_id for trade in every] == list(range(1, len(trades) + 1))
    assert [(one.first_trade_id, one.price, one.quantity, one.time) for one in every] == [
        (two.trade_id, two.price, two.quantity, two.time) for two in trades
    ]
    moments = [None, 0, trades[0].time, START - DAY, trades[COUNT - 1].time, START, START + DAY]
    for start in moments:
        for end in moments:
            between = [
                trade
                for trade in every
                if (start is None or trade.time >= start) and (end is None or trade.time <= end)
            ]
            expected = between[:limit] if start is not None else between[-limit:]
            found = engine.aggregate_trades(SYMBOL, start=start, end=end, limit=limit)
            assert found == expected, (start, end)
    for from_id in (1, COUNT - 3, COUNT, COUNT + 1, COUNT + 400):
        found = engine.aggregate_trades(SYMBOL, from_id=from_id, limit=limit)
        assert found == every[from_id - 1 :][:limit]


def test_recent_trades__the_last_reach_into_the_past() -> None:
    engine = traded().engine
    every = every_trade(engine)
    assert engine.recent_trades(SYMBOL, 1000) == every[-1000:]
    assert engine.recent_trades(SYMBOL, 5, COUNT - 1) == every[COUNT - 2 : COUNT + 3]
    assert engine.recent_trades(SYMBOL, 5, COUNT + 302) == []


def test_trades__a_page_has_no_gap_after_live_ones_are_forgotten() -> None:
    desk = with_past()
    for _ in range(5_001):
        desk.engine.print_trade(SYMBOL, PRICE, units("1"))
    page = desk.engine.recent_trades(SYMBOL, 10, COUNT - 1)
    assert [trade.trade_id for trade in page] == [COUNT - 1, COUNT]
    assert [
        trade.trade_id for trade in desk.engine.recent_trades(SYMBOL, 2, page[-1].trade_id + 1)
    ] == [COUNT + 2, COUNT + 3]
    sums = desk.engine.aggregate_trades(SYMBOL, from_id=COUNT - 1, limit=10)
    assert [trade.aggregate_id for trade in sums] == [COUNT - 1, COUNT]
    everything = desk.engine.recent_trades(SYMBOL, 6_000)
    assert everything[0].trade_id == COUNT + 2


def test_day_stats__equal_the_sums_of_the_trades() -> None:
    engine = (desk := traded()).engine
    stats = engine.day_stats(SYMBOL)
    begin = desk.now - DAY
    first_minute = begin - begin % MINUTE + MINUTE
    trades = [trade for trade in every_trade(engine) if trade.time >= first_minute]
    earlier = [trade for trade in every_trade(engine) if trade.time < first_minute]
    assert stats.trades == len(trades)
    assert stats.trades == stats.last_trade_id - stats.first_trade_id + 1
    assert stats.volume == sum(trade.quantity for trade in trades)
    assert stats.quote_volume == sum(trade.quote_quantity for trade in trades)
    assert stats.high == max(trade.price for trade in trades)
    assert stats.low == min(trade.price for trade in trades)
    assert (stats.open, stats.last) == (trades[0].price, trades[-1].price)
    assert stats.previous_close == earlier[-1].price
    assert stats.first_trade_id == trades[0].trade_id


def test_past__lives_on_in_a_state_file_by_its_arguments_alone() -> None:
    history = traded().engine._markets[SYMBOL].history
    past = history.past
    assert past is not None
    size = len(pickle.dumps(past))
    trades = past.trades(1, COUNT)
    saved = pickle.dumps(past)
    assert len(saved) == size < 2_000
    again = pickle.loads(saved)
    assert again.trades(1, COUNT) == trades
    assert [astuple(bar) for bar in again.bars(MINUTE)] == [
        astuple(bar) for bar in past.bars(MINUTE)
    ]


def test_give_past__only_before_the_first_trade() -> None:
    desk = Desk()
    desk.trade_at("100")
    with pytest.raises(ValueError, match="has trades"):
        desk.engine.give_past(SYMBOL, price=PRICE, days=1, seed=1)


def test_wipe__forgets_the_past() -> None:
    desk = trade(with_past())
    desk.engine.wipe()
    assert desk.engine.recent_trades(SYMBOL) == []
    desk.engine.set_price(SYMBOL, PRICE)
    assert [trade.trade_id for trade in desk.engine.recent_trades(SYMBOL)] == [1]


def test_day_stats__of_the_day_after_the_start_begin_with_the_first_live_trade() -> None:
    desk = with_past(now=START - START % MINUTE)
    desk.engine.set_price(SYMBOL, PRICE)
    desk.now += DAY - 1
    stats = desk.engine.day_stats(SYMBOL)
    assert (stats.trades, stats.first_trade_id, stats.last_trade_id) == (1, COUNT + 1, COUNT + 1)
    assert (stats.open, stats.previous_close) == (PRICE, PRICE)
