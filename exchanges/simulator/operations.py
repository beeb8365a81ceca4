"""What can be asked, whether by REST or by WebSocket API: the two are one list of operations.

An operation reads its parameters (`prepare`, where -11xx refusals come from) and returns the step that does the
work. Between the two the timestamp is checked once more, as the exchange does just before its engine.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exchanges.simulator.exchange import Exchange
from exchanges.simulator.params import Params, Timing
from exchanges.simulator.signing import ApiKey

Step = Callable[[], Any]


class Security(enum.Enum):
    NONE = "NONE"
    TRADE = "TRADE"
    USER_DATA = "USER_DATA"
    USER_STREAM = "USER_STREAM"


SIGNED_NAMES = frozenset({"timestamp", "recvWindow", "signature"})
WEBSOCKET_NAMES = frozenset({"apiKey", "returnRateLimits"})


@dataclass(slots=True)
class Call:
    """One request on its way. `api` is `rest` or `ws`; `at` the moment queries answer for (µs), None for now."""

    exchange: Exchange
    params: Params
    unit: int
    api: str = "rest"
    key: ApiKey | None = None
    timing: Timing | None = None
    at: int | None = None
    invisible_for: float = 0.0
    clock_skew_us: int = 0

    @property
    def account(self) -> str:
        assert self.key is not None  # signed operations only
        return self.key.account

    def now_us(self) -> int:
        return self.exchange.clock.now_us() + self.clock_skew_us


@dataclass(frozen=True, slots=True)
class Operation:
    """`free`: a success costs no weight. `places`: it counts as an order. `engine`: it reaches the engine."""

    method: str
    path: str
    ws_method: str
    security: Security
    weight: int | Callable[[Params], int]
    names: frozenset[str]
    prepare: Callable[[Call], Step]
    free: bool = False
    places: bool = False
    engine: bool = False

    @property
    def signed(self) -> bool:
        return self.security is not Security.NONE

    def weight_of(self, params: Params) -> int:
        return self.weight if isinstance(self.weight, int) else self.weight(params)


def operation(
    route: str,
    ws_method: str,
    weight: int | Callable[[Params], int],
    names: str,
    prepare: Callable[[Call], Step],
    security: Security = Security.NONE,
    *,
    free: bool = False,
    places: bool = False,
    engine: bool = False,
) -> Operation:
    """`route` is `GET /path`, `names` the parameters separated by blanks."""
    method, path = route.split()
    known = frozenset(names.split())
    if security is not Security.NONE:
        known |= SIGNED_NAMES
    return Operation(method, path, ws_method, security, weight, known, prepare, free, places, engine)
