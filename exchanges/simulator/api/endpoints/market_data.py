"""Answer public calls: time, rules, book, trades, candles and tickers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exchanges.simulator import errors
from exchanges.simulator.api import candles
from exchanges.simulator.api.operations import Call, Operation, Step, operation
from exchanges.simulator.api.params import Params
from exchanges.simulator.api.render import market_data as render
from exchanges.simulator.engine.types import DayStats, text
from exchanges.simulator.errors import ApiError

STATUSES = ("TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY")
KNOWN_PERMISSIONS = frozenset(
    {"SPOT", "MARGIN", "LEVERAGED"} | {f"TRD_GRP_{number:03d}" for number in range(2, 200)}
)
TICKER_SYMBOLS_MAXIMUM = 100
TICKER_TYPES = ("FULL", "MINI")
MOST_DIGITS = 20


def ping(call: Call) -> Step:
    del call
    return dict


def time(call: Call) -> Step:
    return lambda: {"serverTime": call.now_us() // call.unit}


def system_status(call: Call) -> Step:
    del call
    return lambda: {"status": 0, "msg": "normal"}


# ------------------------------------------------------------------------------------- exchangeInfo


def exchange_info(call: Call) -> Step:
    params = call.params
    symbol, symbols = params.symbol(), params.symbols()
    permissions = _permissions(params)
    status = _status(params)
    with_sets = params.boolean("showPermissionSets", True)
    if symbol is not None and symbols is not None:
        raise errors.bad_combination()
    if (symbol is not None or symbols is not None) and (
        permissions is not None or status is not None
    ):
        raise errors.bad_combination()
    wanted = symbols if symbols is not None else [symbol] if symbol is not None else None

    def step() -> Any:
        engine = call.exchange.engine
        names = (
            list(engine.symbols)
            if wanted is None
            else [engine.spec(name).symbol for name in wanted]
        )
        rows = []
        for name in names:
            spec = engine.spec(name)
            row = spec.exchange_info(engine.status(name))
            if status is not None and row["status"] != status:
                continue
            if permissions is not None and not permissions & {
                item for group in spec.permission_sets for item in group
            }:
                continue
            if not with_sets:
                row["permissionSets"] = []
            rows.append(row)
        return {
            "timezone": "UTC",
            "serverTime": call.now_us() // call.unit,
            "rateLimits": call.exchange.limiter.settings.describe(engine.order_limits, call.api),
            "exchangeFilters": [dict(rule) for rule in engine.exchange_filters],
            "symbols": rows,
        }

    return step


def _permissions(params: Params) -> frozenset[str] | None:
    value = params.text("permissions")
    if value is None:
        return None
    names = params.symbols("permissions") if value.startswith("[") else [value]
    if not names or not KNOWN_PERMISSIONS.issuperset(names):
        raise errors.invalid_data("permissions")
    return frozenset(names)


def _status(params: Params) -> str | None:
    return params.choice("symbolStatus", STATUSES, ApiError(-1122, "Invalid symbolStatus."))


def _check_status(call: Call, symbol: str, status: str | None) -> None:
    if status is not None and call.exchange.engine.status(symbol) != status:
        raise ApiError(-1220, "The symbol's status does not match the requested symbolStatus.")


# ---------------------------------------------------------------------------------- book and trades


def depth(call: Call) -> Step:
    symbol = call.params.required_symbol()
    limit = call.params.limit(100, 5000)
    status = _status(call.params)

    def step() -> Any:
        call.exchange.engine.spec(symbol)
        _check_status(call, symbol, status)
        return render.depth_row(call.exchange.engine.depth(symbol, limit))

    return step


def depth_weight(params: Params) -> int:
    value = params.values.get("limit", "100")
    # Longer digits are refused afterwards, and `int` would raise on very many.
    limit = int(value) if value.isdecimal() and len(value) <= MOST_DIGITS else 100
    for most, weight in ((100, 5), (500, 25), (1000, 50)):
        if limit <= most:
            return weight
    return 250


def trades(call: Call) -> Step:
    symbol = call.params.required_symbol()
    limit = call.params.limit(500, 1000)
    from_id = call.params.integer("fromId")

    def step() -> Any:
        found = call.exchange.engine.recent_trades(symbol, limit, from_id)
        return [render.public_trade_row(trade, call.unit) for trade in found]

    return step


def aggregate_trades(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    from_id = params.integer("fromId")
    start, end = _period(params)
    limit = params.limit(500, 1000)
    if from_id is not None and (start is not None or end is not None):
        raise errors.bad_combination()

    def step() -> Any:
        found = call.exchange.engine.aggregate_trades(
            symbol, from_id=from_id, start=start, end=end, limit=limit
        )
        return [render.aggregate_row(trade, call.unit) for trade in found]

    return step


def _period(params: Params) -> tuple[int | None, int | None]:
    start, end = params.time_ms("startTime"), params.time_ms("endTime")
    if start is not None and end is not None and end < start:
        raise errors.bad_combination()
    return None if start is None else start * 1000, None if end is None else end * 1000 + 999


# ------------------------------------------------------------------------------------------ candles


def klines(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    interval = params.required_text("interval")
    if interval not in candles.INTERVAL_SECONDS:
        raise ApiError(-1120, "Invalid interval.")
    start, end = _period(params)
    zone = candles.read_time_zone(params.text("timeZone"))
    limit = params.limit(500, 1000)

    def step() -> Any:
        call.exchange.engine.spec(symbol)
        return [
            render.kline_row(bar, candles.period_end(interval, bar.opened_at, zone), call.unit)
            for bar in _candles(call, symbol, interval, zone, start, end, limit)
        ]

    return step


def _candles(
    call: Call,
    symbol: str,
    interval: str,
    zone: int,
    start: int | None,
    end: int | None,
    limit: int,
) -> list[Any]:
    engine = call.exchange.engine
    seconds = candles.INTERVAL_SECONDS[interval]
    is_shifted = interval in ("1w", "1M", "3d") or zone // candles.SECOND_US % seconds != 0
    if not is_shifted:
        return list(engine.bars(symbol, seconds, start=start, end=end, limit=limit))
    base = engine.bars(symbol, 60, limit=10**9)
    bars = [
        bar
        for bar in candles.merge_bars(base, candles.period_start(interval, zone))
        if (start is None or bar.opened_at >= start) and (end is None or bar.opened_at <= end)
    ]
    return bars[:limit] if start is not None else bars[-limit:]


def average_price(call: Call) -> Step:
    symbol = call.params.required_symbol()

    def step() -> Any:
        minutes, price, closed_at = call.exchange.engine.average_price(symbol)
        return {"mins": minutes, "price": text(price), "closeTime": closed_at // call.unit}

    return step


# ------------------------------------------------------------------------------------------ tickers

SymbolRow = Callable[[str], Any]


def _per_symbol(call: Call, row: SymbolRow, *, needs_symbol: bool = False) -> Step:
    """Return one row for `symbol`, or a list for `symbols` or for all symbols."""
    params = call.params
    symbol, symbols = params.symbol(), params.symbols()
    status = _status(params)
    if symbol is not None and symbols is not None:
        raise errors.bad_combination()
    if needs_symbol:
        if symbol is None and symbols is None:
            raise errors.one_of_two("symbol", "symbols")
        if symbols is not None and len(symbols) > TICKER_SYMBOLS_MAXIMUM:
            raise errors.too_many_parameters(TICKER_SYMBOLS_MAXIMUM, len(symbols))

    def step() -> Any:
        engine = call.exchange.engine
        if symbol is not None:
            engine.spec(symbol)
            _check_status(call, symbol, status)
            return row(symbol)
        names = (
            list(engine.symbols)
            if symbols is None
            else [engine.spec(name).symbol for name in symbols]
        )
        return [row(name) for name in names if status is None or engine.status(name) == status]

    return step


def _few_or_many(one: int, many: int) -> Callable[[Params], int]:
    return lambda params: one if params.values.get("symbol") else many


def _symbol_count(params: Params) -> int:
    return params.values.get("symbols", "").count(",") + 1


def day_weight(params: Params) -> int:
    if params.values.get("symbol"):
        return 2
    if not params.values.get("symbols"):
        return 80
    count = _symbol_count(params)
    return 2 if count <= 20 else 40 if count <= 100 else 80


def window_weight(params: Params) -> int:
    return min(4 * _symbol_count(params), 200)


def price(call: Call) -> Step:
    def row(symbol: str) -> Any:
        return {"symbol": symbol, "price": text(call.exchange.engine.last_price(symbol))}

    return _per_symbol(call, row)


def book_ticker(call: Call) -> Step:
    return _per_symbol(
        call, lambda symbol: render.book_ticker(symbol, call.exchange.engine.best(symbol))
    )


def _mini(params: Params) -> bool:
    return params.choice("type", TICKER_TYPES, ApiError(-1139, "Invalid ticker type.")) == "MINI"


def day_ticker(call: Call) -> Step:
    mini = _mini(call.params)

    def row(symbol: str) -> Any:
        engine = call.exchange.engine
        stats = engine.day_stats(symbol)
        if mini:
            return render.ticker_mini(symbol, stats, call.unit)
        return render.ticker_day(symbol, stats, engine.best(symbol), call.unit)

    return _per_symbol(call, row)


def window_ticker(call: Call) -> Step:
    window = candles.read_window(call.params.text("windowSize"))

    def bounds() -> tuple[int, int]:
        now = call.exchange.clock.now_us()
        return (now - window) // candles.MINUTE_US * candles.MINUTE_US, now

    return _statistics(call, bounds)


def trading_day(call: Call) -> Step:
    zone = candles.read_time_zone(call.params.text("timeZone"))

    def bounds() -> tuple[int, int]:
        start = candles.period_start("1d", zone)(call.exchange.clock.now_us())
        return start, start + candles.DAY_US - 1

    return _statistics(call, bounds)


def _statistics(call: Call, bounds: Callable[[], tuple[int, int]]) -> Step:
    mini = _mini(call.params)

    def row(symbol: str) -> Any:
        engine = call.exchange.engine
        start, end = bounds()
        bars = engine.bars(symbol, 60, start=start, end=end, limit=10**9)
        stats: DayStats = candles.window_stats(list(bars), start, end, engine.last_price(symbol))
        return (render.ticker_mini if mini else render.ticker_window)(symbol, stats, call.unit)

    return _per_symbol(call, row, needs_symbol=True)


_KLINE_NAMES = "symbol* interval* startTime endTime timeZone limit"
_TICKER_NAMES = "symbol symbols symbolStatus"

MARKET_OPERATIONS: tuple[Operation, ...] = (
    operation("GET /api/v3/ping", "ping", 1, "", ping),
    operation("GET /api/v3/time", "time", 1, "", time),
    operation("GET /sapi/v1/system/status", "", 1, "", system_status),
    operation(
        "GET /api/v3/exchangeInfo",
        "exchangeInfo",
        20,
        "symbol symbols permissions showPermissionSets symbolStatus",
        exchange_info,
    ),
    operation("GET /api/v3/depth", "depth", depth_weight, "symbol* limit symbolStatus", depth),
    operation("GET /api/v3/trades", "trades.recent", 25, "symbol* limit", trades),
    operation(
        "GET /api/v3/historicalTrades", "trades.historical", 25, "symbol* limit fromId", trades
    ),
    operation(
        "GET /api/v3/aggTrades",
        "trades.aggregate",
        4,
        "symbol* fromId startTime endTime limit",
        aggregate_trades,
    ),
    operation("GET /api/v3/klines", "klines", 2, _KLINE_NAMES, klines),
    operation("GET /api/v3/uiKlines", "uiKlines", 2, _KLINE_NAMES, klines),
    operation("GET /api/v3/avgPrice", "avgPrice", 2, "symbol*", average_price),
    operation(
        "GET /api/v3/ticker/24hr", "ticker.24hr", day_weight, f"{_TICKER_NAMES} type", day_ticker
    ),
    operation("GET /api/v3/ticker/price", "ticker.price", _few_or_many(2, 4), _TICKER_NAMES, price),
    operation(
        "GET /api/v3/ticker/bookTicker",
        "ticker.book",
        _few_or_many(2, 4),
        _TICKER_NAMES,
        book_ticker,
    ),
    operation(
        "GET /api/v3/ticker/tradingDay",
        "ticker.tradingDay",
        window_weight,
        f"{_TICKER_NAMES} type timeZone",
        trading_day,
    ),
    operation(
        "GET /api/v3/ticker",
        "ticker",
        window_weight,
        f"{_TICKER_NAMES} type windowSize",
        window_ticker,
    ),
)
