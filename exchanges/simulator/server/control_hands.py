"""Let a person place, amend and cancel orders, as in the exchange's own app.

The fields of a body are the parameters of the documented call, plus `account`. No key, signature,
weight or fault is in the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exchanges.simulator.api.endpoints import trading
from exchanges.simulator.api.endpoints.trading import TRADING_OPERATIONS
from exchanges.simulator.api.messages import MILLISECONDS
from exchanges.simulator.api.operations import Call, Operation, Step
from exchanges.simulator.api.params import Params, json_params
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.keys import ApiKey, KeyKind
from exchanges.simulator.server.control_fields import Body, read_text

VERBS: dict[str, Callable[[Call], Step]] = {
    "place": trading.place,
    "amend": trading.amend,
    "cancel": trading.cancel,
    "cancel_all": trading.cancel_all,
}


class Hands:
    """Answer requests below /control/hand."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def handlers(self) -> dict[tuple[str, str], Callable[[Body], Any]]:
        return {
            ("POST", f"hand/{verb}"): self._handler(_operation(prepare))
            for verb, prepare in VERBS.items()
        }

    def _handler(self, operation: Operation) -> Callable[[Body], Any]:
        def handle(body: Body) -> Any:
            account = read_text(body, "account")
            self.exchange.engine.account(account)
            sent = {name: value for name, value in body.items() if name != "account"}
            params = Params(json_params(sent))
            params.check_names(operation.names, signed=True)
            call = Call(exchange=self.exchange, params=params, unit=MILLISECONDS, api="hand")
            call.key = _hand(account)
            return operation.prepare(call)()

        return handle


def _operation(prepare: Callable[[Call], Step]) -> Operation:
    return next(item for item in TRADING_OPERATIONS if item.prepare is prepare)


def _hand(account: str) -> ApiKey:
    return ApiKey(key="", account=account, kind=KeyKind.HMAC, verify=lambda *_: True)
