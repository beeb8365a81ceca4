"""The control plane from Python: what tests, demos and rehearsals use to steer the simulator and to read its truth.

Synchronous, standard library only, one connection per call.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypedDict, cast
from urllib.parse import urlsplit

Amount = str | Decimal | int


class OrderTruth(TypedDict):
    """An order as the engine has it; amounts as decimal text."""

    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: str
    type: str
    time_in_force: str
    status: str
    quantity: str
    quote_quantity: str
    price: str
    stop_price: str
    executed_quantity: str
    executed_quote: str


class ControlRefused(Exception):
    """The control plane did not do it; the text says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Truth:
    """What the exchange really has. `raw` is the whole of `GET /control/truth`."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw

    @property
    def requests(self) -> dict[str, int]:
        """How often each REST call (`POST /api/v3/order`) and WebSocket API method (`order.place`) came in."""
        return dict(self.raw["requests"])

    def orders(self, account: str | None = None) -> list[OrderTruth]:
        """Orders that were accepted, oldest first within an account (closed ones as far as history goes)."""
        return [
            cast(OrderTruth, {"account": name, **row})
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
            for row in rows["orders"]
        ]

    def order(self, client_order_id: str, account: str | None = None) -> OrderTruth | None:
        """The youngest order with this client order id, if it was ever accepted."""
        found = [row for row in self.orders(account) if row["client_order_id"] == client_order_id]
        return found[-1] if found else None

    def accepted(self, client_order_id: str, account: str | None = None) -> int:
        """How many orders were ever accepted under this id (of the last ids, as many as the history's limit)."""
        return sum(
            int(rows["accepted_by_client_order_id"].get(client_order_id, 0))
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
        )

    def accepted_total(self, account: str | None = None) -> int:
        return sum(int(rows["accepted"]) for name, rows in self.raw["accounts"].items() if account in (None, name))

    def trades(self, account: str | None = None) -> list[dict[str, Any]]:
        return [
            {"account": name, **row}
            for name, rows in self.raw["accounts"].items()
            if account in (None, name)
            for row in rows["trades"]
        ]

    def balances(self, account: str = "main") -> dict[str, tuple[Decimal, Decimal]]:
        """asset -> (free, locked)."""
        rows = self.raw["accounts"][account]["balances"]
        return {asset: (Decimal(row["free"]), Decimal(row["locked"])) for asset, row in rows.items()}


class Faults:
    """The scripted faults."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def add(
        self, action: str = "none", *, match: Mapping[str, str] | None = None, times: int | None = 1, **keys: Any
    ) -> int:
        """Add one rule; the keys are those of docs/simulator.md (`seconds`, `status`, `body`, `invisible_for` …).

        Returns its id. `times` None: until cleared.
        """
        return self.script([{"match": dict(match or {}), "times": times, "action": action, **keys}])[0]

    def script(self, rules: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add rules as they stand in a JSON file; all or none."""
        rows = self._client.call("POST", "faults", [dict(rule) for rule in rules])
        return [int(row["id"]) for row in rows]

    def list(self) -> list[dict[str, Any]]:
        """`id`, `rule`, `remaining` and `hits` of each."""
        rows: list[dict[str, Any]] = self._client.call("GET", "faults")
        return rows

    def hits(self, rule_id: int) -> int:
        return next(int(row["hits"]) for row in self.list() if row["id"] == rule_id)

    def clear(self, rule_id: int | None = None) -> None:
        self._client.call("DELETE", "faults" if rule_id is None else f"faults/{rule_id}")


class ControlClient:
    """`ControlClient("http://127.0.0.1:9080")`. Raises ControlRefused, and OSError when nobody listens."""

    def __init__(self, base_url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(base_url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self._timeout = timeout
        self.faults = Faults(self)

    def call(self, method: str, name: str, body: Any = None) -> Any:
        """`call("POST", "price", {"symbol": ..., "price": ...})`."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/control/{name}", text, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        if response.status != 200:
            raise ControlRefused(response.status, str(answer.get("error", "")))
        return answer

    def _post(self, name: str, **body: Any) -> Any:
        return self.call("POST", name, {key: _plain(value) for key, value in body.items() if value is not None})

    # ----------------------------------------------------------------------------------- market, orders

    def set_price(self, symbol: str, price: Amount) -> None:
        """The market's price from now on: quotes move there, it becomes the last price, stops trigger."""
        self._post("price", symbol=symbol, price=price)

    def freeze(self) -> None:
        """No market maker, no quotes: the book holds only the accounts' own orders."""
        self._post("market", frozen=True)

    def unfreeze(self) -> None:
        self._post("market", frozen=False)

    def tick(self, count: int = 1) -> None:
        """Let the market move so many times now."""
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
        """Trade against a resting order, all of it by default. Returns trade_id, price, quantity."""
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
        """The exchange cancels the order by itself."""
        self._post("cancel", symbol=symbol, order_id=order_id, client_order_id=client_order_id, account=account)

    def expire(
        self,
        symbol: str,
        order_id: int | None = None,
        *,
        client_order_id: str | None = None,
        account: str | None = None,
        reason: str | None = None,
    ) -> None:
        """The exchange lets the order expire."""
        self._post(
            "expire",
            symbol=symbol,
            order_id=order_id,
            client_order_id=client_order_id,
            account=account,
            reason=reason,
        )

    def set_symbol_status(self, symbol: str, status: str) -> None:
        """TRADING, HALT, BREAK, CANCEL_ONLY, END_OF_DAY."""
        self._post("symbol", symbol=symbol, status=status)

    # ---------------------------------------------------------------------------------------- accounts

    def deposit(self, asset: str, amount: Amount, account: str = "main") -> None:
        self._post("deposit", account=account, asset=asset, amount=amount)

    def withdraw(self, asset: str, amount: Amount, account: str = "main") -> None:
        self._post("withdraw", account=account, asset=asset, amount=amount)

    def lock(self, asset: str, delta: Amount, account: str = "main") -> None:
        """Lock (or with a negative delta release) funds as an external system does."""
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

    def add_key(self, account: str, api_key: str, api_secret: str, *, can_trade: bool = True) -> None:
        """`api_secret` is an HMAC secret or a PEM."""
        self._post("keys", account=account, api_key=api_key, api_secret=api_secret, can_trade=can_trade)

    def revoke_key(self, api_key: str) -> None:
        self._post("keys/revoke", api_key=api_key)

    def restore_key(self, api_key: str) -> None:
        self._post("keys/restore", api_key=api_key)

    def set_can_trade(self, can_trade: bool, account: str = "main") -> None:
        """Whether the account (not only one key) may trade."""
        self._post("permissions", account=account, can_trade=can_trade)

    # ---------------------------------------------------------------------------------------- exchange

    def set_clock_offset(self, milliseconds: float) -> None:
        """The exchange's clock is so far ahead of the machine's (negative: behind)."""
        self._post("clock", offset_ms=milliseconds)

    def set_maintenance(self, on: bool) -> None:
        self._post("maintenance", on=on)

    def settings(self, **values: Any) -> dict[str, Any]:
        """Change settings (`latency_ms`, `ping_seconds`, `pong_seconds`, …) and return all."""
        answer: dict[str, Any] = self._post("settings", **values)
        return answer

    def limits(self, **values: Any) -> dict[str, Any]:
        """Change limits (`request_weight`, `orders_10s`, `ban_after`, …), start counting anew and return all."""
        answer: dict[str, Any] = self._post("limits", **values)
        return answer

    def announce_shutdown(self, close_after: float | None = None) -> None:
        """`serverShutdown` on every WebSocket, which close after so many seconds if given."""
        self._post("streams/shutdown", seconds=close_after)

    def disconnect_streams(self, *, reset: bool = False) -> None:
        self._post("streams/disconnect", reset=reset)

    def streams(self) -> list[dict[str, Any]]:
        """Open WebSocket connections with the accounts they are subscribed to."""
        rows: list[dict[str, Any]] = self.call("GET", "streams")
        return rows

    def wipe(self) -> None:
        """As a testnet is wiped: no orders, no trades, first balances; keys, faults and clock stay."""
        self._post("wipe")

    def reset(self) -> None:
        """As if just started: wiped, no faults, counters at zero, clock right, keys valid."""
        self._post("reset")

    # ------------------------------------------------------------------------------------------- truth

    def truth(self) -> Truth:
        return Truth(self.call("GET", "truth"))

    def is_ready(self) -> bool:
        try:
            self.call("GET", "health")
        except OSError:
            return False
        return True


def _plain(value: Any) -> Any:
    return format(value, "f") if isinstance(value, Decimal) else value
