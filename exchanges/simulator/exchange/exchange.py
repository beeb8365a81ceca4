"""Run an exchange: the engine, and everything else that the API needs.

That is API keys, limits, fault rules, orders hidden from queries, request counts, and the listeners
for events.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.events import Event
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import DEFAULT_ORDER_LIMITS, Account, Order, OrderLimit
from exchanges.simulator.exchange.clock import ServerClock
from exchanges.simulator.exchange.fault_rules import FaultBook
from exchanges.simulator.exchange.keys import ApiKey, make_api_key
from exchanges.simulator.exchange.market_maker import MarketMaker
from exchanges.simulator.exchange.rate_limits import Limiter, LimitSettings

PRUNE_HIDDEN_AT = 10_000

# The queries that can lag, by kind, as WebSocket API methods. REST calls lag alike.
LAG_KINDS: dict[str, tuple[str, ...]] = {
    "order": ("order.status", "order.amendments"),
    "openOrders": ("openOrders.status",),
    "allOrders": ("allOrders",),
    "myTrades": ("myTrades",),
    "account": ("account.status",),
}
LONGEST_LAG = 60.0  # half of the time that the engine's journal covers

Listener = Callable[[list[Event]], None]


@dataclass(slots=True)
class Settings:
    """Configure the server. The control plane may change the settings while it runs."""

    seed: int = 0
    frozen: bool = False
    latency_ms: float = 0.0
    engine_timeout_seconds: float = 10.0
    tick_seconds: float = 0.25
    ping_seconds: float = 20.0
    pong_seconds: float = 60.0
    connection_seconds: float = 24 * 3600.0
    history_limit: int = 10_000
    past_days: int = 0


class Exchange:
    """Hold the state that REST, WebSocket API and control plane share.

    Everything runs on one event loop.
    """

    engine: Engine
    market: MarketMaker
    limiter: Limiter
    faults: FaultBook
    settings: Settings

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        limits: LimitSettings | None = None,
        order_limits: tuple[OrderLimit, ...] = DEFAULT_ORDER_LIMITS,
        symbols: Iterable[SymbolSpec] = DEFAULT_SYMBOLS,
        prices: Mapping[str, int] | None = None,
    ) -> None:
        self._first_settings = settings or Settings()
        self._first_limits = limits or LimitSettings()
        self._order_limits = order_limits
        self._symbols = tuple(symbols)
        self._prices = dict(prices or {})
        self._first_accounts: list[tuple[str, dict[str, int], dict[str, Any]]] = []
        self._first_keys: list[ApiKey] = []
        self.clock = ServerClock()
        self.listeners: list[Listener] = []
        self.key_listeners: list[Callable[[ApiKey], None]] = []
        self.ban_listeners: list[Callable[[str], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.generation = 0
        self._build()

    def _build(self) -> None:
        self.clock.offset_us = 0
        self.settings = replace(self._first_settings)
        self.engine = Engine(
            self._symbols,
            clock=self.clock.now_us,
            seed=self.settings.seed,
            history_limit=self.settings.history_limit,
            order_limits=self._order_limits,
        )
        self.market = MarketMaker(
            self.engine,
            seed=self.settings.seed,
            frozen=self.settings.frozen,
            prices=self._prices,
            past_days=self.settings.past_days,
        )
        self.limiter = Limiter(replace(self._first_limits), self._banned)
        self.faults = FaultBook()
        self.keys: dict[str, ApiKey] = {}
        self.hidden: dict[tuple[str, int], int] = {}
        self.requests: Counter[str] = Counter()
        self.maintenance = False
        self.lags: dict[str, float] = {}

    def reset(self) -> None:
        """Return to the state after the start, with the first accounts and keys.

        Requests that are still running are canceled.
        """
        for task in self._tasks:
            task.cancel()
        self.generation += 1
        self._build()
        for name, balances, fields in self._first_accounts:
            self.engine.add_account(name, balances, **fields)
        self.keys = {key.key: replace(key, active=True, can_trade=True) for key in self._first_keys}

    def restore(self, engine: Engine, market: MarketMaker) -> None:
        """Continue with the engine of an earlier run."""
        self.engine, self.market = engine, market
        if market.frozen and not self.settings.frozen:
            market.thaw()
        elif self.settings.frozen and not market.frozen:
            market.freeze()

    # ---------------------------------------------------------------------------- accounts and keys

    def add_first_account(self, account: str, balances: Mapping[str, int], **fields: Any) -> None:
        """Add an account that a reset restores. An account from an earlier run stays as it is."""
        self._first_accounts.append((account, dict(balances), fields))
        if account not in self.engine.accounts:
            self.engine.add_account(account, balances, **fields)

    def add_first_key(self, key: str, secret: str, account: str) -> None:
        """Add a key that a reset restores."""
        self._first_keys.append(self.add_key(key, secret, account))

    def add_account(self, account: str, balances: Mapping[str, int], **fields: Any) -> Account:
        return self.engine.add_account(account, balances, **fields)

    def add_key(self, key: str, secret: str, account: str, *, can_trade: bool = True) -> ApiKey:
        made = make_api_key(
            key, secret, account, created_ms=self.clock.now_ms(), can_trade=can_trade
        )
        self.keys[key] = made
        return made

    def set_key_active(self, key: ApiKey, active: bool) -> None:
        key.active = active
        for listener in self.key_listeners:
            listener(key)

    def _banned(self, ip: str) -> None:
        for listener in self.ban_listeners:
            listener(ip)

    # ----------------------------------------------------------------------------------- visibility

    def set_lags(self, seconds: Mapping[str, float]) -> None:
        """Let queries show the state of some seconds ago, by kind (see `LAG_KINDS`).

        0 switches a lag off. Raises ValueError for an unknown kind or more than `LONGEST_LAG`.
        """
        for kind, lag in seconds.items():
            if kind not in LAG_KINDS:
                raise ValueError(f"{kind}: must be one of {', '.join(LAG_KINDS)}")
            if isinstance(lag, bool) or not isinstance(lag, int | float):
                raise ValueError(f"{kind}: must be a number of seconds")
            if not 0 <= lag <= LONGEST_LAG:
                raise ValueError(f"{kind}: must be from 0 to {LONGEST_LAG:.0f} seconds")
        for kind, lag in seconds.items():
            for method in LAG_KINDS[kind]:
                self.lags[method] = float(lag)

    def describe_lags(self) -> dict[str, float]:
        return {kind: self.lags.get(methods[0], 0.0) for kind, methods in LAG_KINDS.items()}

    def hide(self, order: Order, seconds: float) -> None:
        """Hide the order from queries and cancels for so many seconds."""
        now = self.clock.now_us()
        if len(self.hidden) >= PRUNE_HIDDEN_AT:
            self.hidden = {name: until for name, until in self.hidden.items() if until > now}
        self.hidden[(order.symbol, order.order_id)] = now + int(seconds * 1_000_000)

    def is_hidden(self, symbol: str, order_id: int) -> bool:
        if not self.hidden:
            return False
        until = self.hidden.get((symbol, order_id))
        if until is None:
            return False
        if until <= self.clock.now_us():
            del self.hidden[(symbol, order_id)]
            return False
        return True

    # --------------------------------------------------------------------------------------- events

    def publish(self) -> None:
        """Pass the engine's new events to the listeners."""
        events = self.engine.drain_events()
        if events:
            for listener in self.listeners:
                listener(events)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that outlives its request."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wipe(self) -> None:
        """Reset as a testnet does: no orders, no trades, first balances. Keys stay.

        All numbers begin again. Requests that are on their way are lost: their answer is -1007.
        """
        self.generation += 1
        self.engine.wipe()
        self.market.start()
        self.hidden.clear()
        self.publish()
