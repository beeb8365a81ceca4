"""Steer the simulator from Python and read its truth, for tests, demos and rehearsals.

The client is synchronous, needs only the standard library and uses one connection per call.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from exchanges.simulator.client_truth import OrderTruth, Truth

__all__ = ["ControlClient", "ControlRefused", "Faults", "OrderTruth", "Truth"]

Amount = str | Decimal | int


class ControlRefused(Exception):
    """Signal that the control plane refused a call. The text gives the reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Faults:
    """Manage the scripted faults."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def add(
        self,
        action: str = "none",
        *,
        match: Mapping[str, str] | None = None,
        times: int | None = 1,
        **keys: Any,
    ) -> int:
        """Add one rule and return its id.

        The keys are listed in docs/simulator.md (`seconds`, `status`, `body`, `invisible_for` and
        so on). With `times` None the rule stays until it is cleared.
        """
        return self.script(
            [{"match": dict(match or {}), "times": times, "action": action, **keys}]
        )[0]

    def script(self, rules: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add the rules of a JSON file. If one is invalid, add none."""
        rows = self._client.call("POST", "faults", [dict(rule) for rule in rules])
        return [int(row["id"]) for row in rows]

    def time_out(self, account: str) -> int:
        """Stop answering the account's queries. Its orders and cancels still work.

        Returns the rule's id, for `clear`.
        """
        return self.add(
            "never_answer", match={"account": account, "method": "GET"}, times=None, execute=False
        )

    def list(self) -> list[dict[str, Any]]:
        """Return `id`, `rule`, `remaining` and `hits` of each rule."""
        rows: list[dict[str, Any]] = self._client.call("GET", "faults")
        return rows

    def hits(self, rule_id: int) -> int:
        return next(int(row["hits"]) for row in self.list() if row["id"] == rule_id)

    def clear(self, rule_id: int | None = None) -> None:
        self._client.call("DELETE", "faults" if rule_id is None else f"faults/{rule_id}")


class ControlClient:
    """Call the control plane, e.g. of `ControlClient("http://127.0.0.1:9080")`.

    Raises ControlRefused, and OSError if no simulator listens there.
    """

    def __init__(self, base_url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._timeout = timeout
        self.faults = Faults(self)

    def call(self, method: str, name: str, body: Any = None) -> Any:
        """Call the control plane: `call("POST", "price", {"symbol": ..., "price": ...})`."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(
                method, f"/control/{name}", text, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        if response.status != 200:
            raise ControlRefused(response.status, str(answer.get("error", "")))
        return answer

    def _post(self, name: str, **body: Any) -> Any:
        return self.call(
            "POST", name, {key: _plain(value) for key, value in body.items() if value is not None}
        )

    # ------------------------------------------------------------------------------- market, orders

    def set_price(self, symbol: str, price: Amount) -> None:
        """Set the last price of a market, move its quotes there and trigger stop orders."""
        self._post("price", symbol=symbol, price=price)

    def freeze(self) -> None:
        """Stop the market maker and remove its quotes. Only orders of accounts stay on the book."""
        self._post("market", frozen=True)

    def unfreeze(self) -> None:
        self._post("market", frozen=False)

    def tick(self, count: int = 1) -> None:
        """Move the market so many times now."""
        self._post("tick", count=count)

    def fill(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        quantity: Amount | None = None,
        price: Amount | None = None,
        account: str | None = None,
    ) -> dict[str, Any]:
        """Trade against a resting order, all of it by default.

        Returns trade_id, price and quantity.
        """
        answer: dict[str, Any] = self._post(
            "fill",
            symbol=symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            quantity=quantity,
            price=price,
            account=account,
        )
        return answer

    def cancel(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str | None = None,
    ) -> None:
        """Let the exchange cancel the order by itself."""
        self._post(
            "cancel",
            symbol=symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            account=account,
        )

    def expire(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Let the exchange expire the order."""
        self._post(
            "expire",
            symbol=symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            account=account,
            reason=reason,
        )

    def archive(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str | None = None,
    ) -> None:
        """Archive a closed order without fills: it is -2026, and allOrders leaves it out."""
        self._post(
            "archive",
            symbol=symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            account=account,
        )

    # -------------------------------------------------------------------------------------- by hand

    def place_by_hand(self, account: str = "main", **params: Any) -> dict[str, Any]:
        """Let a person place an order, with the parameters of `POST /api/v3/order`.

        Returns the documented answer.
        """
        answer: dict[str, Any] = self._post("hand/place", account=account, **params)
        return answer

    def amend_by_hand(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        quantity: Amount,
        client_order_id: str | None = None,
        new_client_order_id: str | None = None,
        account: str = "main",
    ) -> dict[str, Any]:
        """Let a person reduce an order. Without a new client order id it gets a random one."""
        answer: dict[str, Any] = self._post(
            "hand/amend",
            account=account,
            symbol=symbol,
            orderId=order_id,
            origClientOrderId=client_order_id,
            newClientOrderId=new_client_order_id,
            newQty=str(_plain(quantity)),
        )
        return answer

    def cancel_by_hand(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str = "main",
    ) -> Any:
        """Let a person cancel an order, or all orders on the symbol if no id is given."""
        if order_id is None and client_order_id is None:
            return self._post("hand/cancel_all", account=account, symbol=symbol)
        return self._post(
            "hand/cancel",
            account=account,
            symbol=symbol,
            orderId=order_id,
            origClientOrderId=client_order_id,
        )

    # -------------------------------------------------------------------------------------- symbols

    def list_symbol(
        self,
        symbol: str,
        *,
        base: str | None = None,
        quote: str | None = None,
        like: str | None = None,
        price: Amount | None = None,
        status: str = "TRADING",
        **changes: Any,
    ) -> None:
        """Bring a delisted symbol back, or list a new one with the rules of `like`.

        A new one also needs `base` and `quote`, and takes the changes of `change_symbol`.
        """
        self._post(
            "symbols/list",
            symbol=symbol,
            base=base,
            quote=quote,
            like=like,
            price=price,
            status=status,
            **changes,
        )

    def delist(self, symbol: str, *, orders: str = "expire") -> None:
        """Remove a symbol. Its open orders `expire`, or end unheard-of with `archive`."""
        self._post("symbols/delist", symbol=symbol, orders=orders)

    def change_symbol(
        self,
        symbol: str,
        *,
        tick: Amount | None = None,
        step: Amount | None = None,
        min_notional: Amount | None = None,
        filters: Mapping[str, Mapping[str, Any]] | None = None,
        permission_sets: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Change the rules of a live symbol. Its open orders stay as they are."""
        self._post(
            "symbols/change",
            symbol=symbol,
            tick=tick,
            step=step,
            min_notional=min_notional,
            filters=filters,
            permission_sets=permission_sets,
        )

    def permit_symbol(self, symbol: str, permitted: bool, account: str = "main") -> None:
        """Permit or forbid a symbol to one account. New orders on it are then -2010."""
        self._post("symbols/permit", symbol=symbol, permitted=permitted, account=account)

    def set_symbol_status(self, symbol: str, status: str) -> None:
        """Set TRADING, HALT, BREAK, CANCEL_ONLY or END_OF_DAY."""
        self._post("symbol", symbol=symbol, status=status)

    # ------------------------------------------------------------------------------------- accounts

    def deposit(self, asset: str, amount: Amount, account: str = "main") -> None:
        self._post("deposit", account=account, asset=asset, amount=amount)

    def withdraw(self, asset: str, amount: Amount, account: str = "main") -> None:
        self._post("withdraw", account=account, asset=asset, amount=amount)

    def lock(self, asset: str, delta: Amount, account: str = "main") -> None:
        """Lock funds as an external system does. A negative delta releases them."""
        self._post("lock", account=account, asset=asset, delta=delta)

    def add_account(
        self,
        account: str,
        balances: Mapping[str, Amount] | None = None,
        *,
        api_key: str | None = None,
        api_secret: str | None = None,
        maker: Amount | None = None,
        taker: Amount | None = None,
    ) -> None:
        rows = {asset: _plain(amount) for asset, amount in (balances or {}).items()}
        self._post(
            "accounts",
            account=account,
            balances=rows,
            api_key=api_key,
            api_secret=api_secret,
            maker=maker,
            taker=taker,
        )

    def add_key(
        self, account: str, api_key: str, api_secret: str, *, can_trade: bool = True
    ) -> None:
        """Add an API key. `api_secret` is an HMAC secret or a PEM."""
        self._post(
            "keys", account=account, api_key=api_key, api_secret=api_secret, can_trade=can_trade
        )

    def revoke_key(self, api_key: str) -> None:
        self._post("keys/revoke", api_key=api_key)

    def restore_key(self, api_key: str) -> None:
        self._post("keys/restore", api_key=api_key)

    def set_can_trade(self, can_trade: bool, account: str = "main") -> None:
        """Allow or forbid trading for the whole account, not only for one key."""
        self._post("permissions", account=account, can_trade=can_trade)

    # ------------------------------------------------------------------------------------- exchange

    def set_clock_offset(self, milliseconds: float) -> None:
        """Move the clock of the exchange ahead of the machine's (negative: behind it)."""
        self._post("clock", offset_ms=milliseconds)

    def set_maintenance(self, on: bool) -> None:
        self._post("maintenance", on=on)

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings (`latency_ms`, `ping_seconds`, `pong_seconds`, …) and return them all."""
        answer: dict[str, Any] = self._post("settings", **values)
        return answer

    def limits(self, **values: Any) -> dict[str, Any]:
        """Change limits (`request_weight`, `orders_10s`, …), reset counters, return all limits."""
        answer: dict[str, Any] = self._post("limits", **values)
        return answer

    def announce_shutdown(self, close_after: float | None = None) -> None:
        """Send `serverShutdown` to every WebSocket. `close_after` (seconds) also closes them."""
        self._post("streams/shutdown", seconds=close_after)

    def disconnect_streams(self, *, reset: bool = False) -> None:
        self._post("streams/disconnect", reset=reset)

    def streams(self) -> list[dict[str, Any]]:
        """Return the open WebSocket connections with their subscribed accounts."""
        rows: list[dict[str, Any]] = self.call("GET", "streams")
        return rows

    def lags(self, **seconds: float) -> dict[str, float]:
        """Let queries lag: `lags(order=30, openOrders=5)`. Return all lags.

        The kinds are order, openOrders, allOrders, myTrades and account. 0 switches one off.
        """
        answer: dict[str, float] = self._post("lags", **seconds)
        return answer

    def wipe(self, *, reset: bool = False) -> None:
        """Reset as a testnet does: no orders or trades, first balances, all numbers from the start.

        All WebSockets end, cleanly or by TCP reset. Keys, rules, faults and clock stay.
        """
        self._post("wipe", reset=reset)

    def reset(self) -> None:
        """Return to the state after the start.

        There are no orders and no faults, counters are at zero, and clock and keys are back to
        normal.
        """
        self._post("reset")

    # ---------------------------------------------------------------------------------------- truth

    def truth(self) -> Truth:
        return Truth(self.call("GET", "truth"))


def _plain(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value
