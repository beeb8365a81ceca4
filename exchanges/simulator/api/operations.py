"""Define an operation of the API. REST and WebSocket API share one list of operations.

`prepare` reads the parameters, raises the -11xx refusals, and returns a step that does the work.
Between the two the timestamp is checked again, as the exchange does just before its engine.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exchanges.simulator.api.params import Params, Timing
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.keys import ApiKey

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
    """Carry one request to its operation.

    `api` is `rest` or `ws`, or `hand` for a person, who also sees hidden orders. Queries answer as
    of `at` (µs), or as of now if it is None.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """Describe one operation.

    It takes the parameters in `names` and needs those in `required`. If `free`, a success costs no
    weight. If `places`, it counts as an order. If `engine`, it reaches the engine.
    """

    method: str
    path: str
    ws_method: str
    security: Security
    weight: int | Callable[[Params], int]
    names: frozenset[str]
    required: frozenset[str]
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
    """Return an operation.

    `route` is `GET /path`, and `names` has the parameters separated by spaces, the required ones
    with an asterisk.
    """
    method, path = route.split()
    known = frozenset(name.rstrip("*") for name in names.split())
    required = frozenset(name[:-1] for name in names.split() if name.endswith("*"))
    if security is not Security.NONE:
        known |= SIGNED_NAMES
        required |= SIGNED_NAMES - {"recvWindow"}
    return Operation(
        method=method,
        path=path,
        ws_method=ws_method,
        security=security,
        weight=weight,
        names=known,
        required=required,
        prepare=prepare,
        free=free,
        places=places,
        engine=engine,
    )
