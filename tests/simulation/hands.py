"""Let hands at the exchange, and its own rules, change what our book doesn't know of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.types import EngineError, units
from exchanges.simulator.errors import ApiError
from orders.ids import hash_for
from tests.simulation.network import BY_HAND
from tests.simulation.world import World


class Hands:
    """The steps that happen at the exchange."""

    world: World
    hand_numbers: int

    def _client_id(self, about: dict[str, Any]) -> str:
        hashed = hash_for(
            environment="simulator", account=about["account"], intent_id=about["intent_id"]
        )
        return f"bo-{hashed}-1"

    def _at_exchange(self, work: Callable[[], None], mark: str = "hand") -> None:
        try:
            work()
        except (ApiError, EngineError, KeyError, ValueError):
            return  # the exchange refuses it: there is no such open order now
        finally:
            self.world.exchange.publish()
        self.world.marks.add(mark)

    def _fill(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange

        def fill() -> None:
            order = exchange._order(self._client_id(about))
            step = 1000  # 0.00001
            quantity = int(order.remaining * about["share"]) // step * step
            exchange.simulator.engine.fill(order.symbol, order.order_id, quantity or None)

        self._at_exchange(fill, "filled by the market")

    def _hand_cancel(self, about: dict[str, Any]) -> None:
        self._at_exchange(lambda: self.world.exchange.cancel(self._client_id(about)))

    def _expire(self, about: dict[str, Any]) -> None:
        self._at_exchange(lambda: self.world.exchange.expire(self._client_id(about)))

    def _hand_amend(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange
        self.hand_numbers += 1

        def amend() -> None:
            order = exchange._order(self._client_id(about))
            quantity = order.quantity // 2 // 10000 * 10000
            exchange.simulator.engine.amend(
                order.account_id,
                order.symbol,
                quantity,
                order_id=order.order_id,
                new_client_order_id=f"{BY_HAND}-{self.hand_numbers}",
            )
            self.world.marks.add("amended by hand")

        self._at_exchange(amend)

    def _hand_reuse(self, about: dict[str, Any]) -> None:
        """Use a client order id of ours again, as Binance allows once its order is closed."""
        name = self._client_id(about)
        if self.world.exchange.accepted(name):
            self._hand_order(about, name)

    def _hand_order(self, about: dict[str, Any], client_order_id: str = "") -> None:
        exchange, account = self.world.exchange, about["account"]
        self.hand_numbers += 1
        parameters = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "54000",
            "newClientOrderId": client_order_id or f"{BY_HAND}-{self.hand_numbers}",
            "timestamp": str(exchange.simulator.clock.now_ms()),
        }
        incoming = exchange._incoming(account, "POST", "/api/v3/order", parameters)

        def place() -> None:
            exchange._dispatcher.carry_out(
                incoming, exchange._dispatcher.receive(incoming, None), None
            )

        self._at_exchange(place)

    def _deposit(self, about: dict[str, Any]) -> None:
        engine = self.world.exchange.simulator.engine
        self._at_exchange(lambda: engine.deposit(about["account"], "USDT", units("1000")))

    def _symbol_pause(self, about: dict[str, Any]) -> None:
        self._set_status(about["symbol"], SymbolStatus.BREAK)
        self.world.scheduler.after(
            about["for"], lambda: self._set_status(about["symbol"], SymbolStatus.TRADING)
        )

    def _set_status(self, symbol: str, status: SymbolStatus) -> None:
        with suppress(EngineError):  # it is delisted
            self.world.exchange.simulator.engine.set_status(symbol, status)
