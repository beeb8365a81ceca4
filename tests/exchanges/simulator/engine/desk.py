"""Give tests an engine: decimals as strings, a clock they move, and an audit of the books."""

from __future__ import annotations

from collections import Counter
from typing import Any

from exchanges.simulator.engine.engine import Engine
from exchanges.simulator.engine.enums import OrderType, Side, StpMode, TimeInForce
from exchanges.simulator.engine.events import AccountPositionEvent, Event, ExecutionEvent
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import (
    SCALE,
    Account,
    Commission,
    NewOrder,
    Order,
    Placement,
    Rates,
    text,
    units,
)

START = 1_700_000_000_000_000
FREE = Commission(standard=Rates())

#: A symbol with easy numbers: tick 0.01, step 0.001, no notional and no price band.
PLAIN = SymbolSpec(
    symbol="AAABBB",
    base_asset="AAA",
    quote_asset="BBB",
    filters=(
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01",
            "maxPrice": "1000000",
            "tickSize": "0.01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "10000", "stepSize": "0.001"},
    ),
    default_stp_mode=StpMode.NONE,
    allowed_stp_modes=tuple(StpMode),
)

_UNITS = ("quantity", "quote_quantity", "price", "stop_price", "iceberg_quantity")


def request(side: str, order_type: str, symbol: str = "AAABBB", **fields: Any) -> NewOrder:
    """Return a `NewOrder` with `fields` as strings. A LIMIT order is GTC by default."""
    kind = OrderType(order_type)
    if kind in (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT):
        fields.setdefault("time_in_force", "GTC")
    if fields.get("time_in_force") is not None:
        fields["time_in_force"] = TimeInForce(fields["time_in_force"])
    if fields.get("stp_mode") is not None:
        fields["stp_mode"] = StpMode(fields["stp_mode"])
    for name in _UNITS:
        if fields.get(name) is not None:
            fields[name] = units(fields[name])
    return NewOrder(symbol, Side(side), kind, **fields)


class Desk:
    """Run an engine with the accounts `alice`, `bob` and `carol`.

    Each has 1000 AAA and 1,000,000 BBB and pays no commission.
    """

    def __init__(self, *specs: SymbolSpec, **options: Any) -> None:
        self.now = START
        self.engine = Engine(specs or (PLAIN,), clock=lambda: self.now, **options)
        for name in ("alice", "bob", "carol"):
            self.engine.add_account(
                name, {"AAA": units("1000"), "BBB": units("1000000")}, commission=FREE
            )

    def account(self, name: str) -> Account:
        return self.engine.accounts[name]

    def later(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)

    def place(self, account: str, side: str, order_type: str, **fields: Any) -> Placement:
        return self.engine.place(account, request(side, order_type, **fields))

    def limit(self, account: str, side: str, quantity: str, price: str, **fields: Any) -> Order:
        return self.place(account, side, "LIMIT", quantity=quantity, price=price, **fields).order

    def trade_at(self, price: str, quantity: str = "1") -> None:
        """Let others trade, so that `price` is the last price."""
        self.engine.print_trade("AAABBB", units(price), units(quantity))

    def balance(self, account: str, asset: str) -> tuple[str, str]:
        free, locked = self.engine.balances(account).get(asset, (0, 0))
        return text(free), text(locked)

    def depth(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        depth = self.engine.depth("AAABBB")
        return (
            [(text(price), text(quantity)) for price, quantity in depth.bids],
            [(text(price), text(quantity)) for price, quantity in depth.asks],
        )

    def events(self) -> list[Event]:
        return self.engine.drain_events()

    def reports(self, account: str | None = None) -> list[ExecutionEvent]:
        return [
            event
            for event in self.events()
            if isinstance(event, ExecutionEvent) and account in (None, event.account_id)
        ]

    def story(self, account: str | None = None) -> list[tuple[str, str]]:
        """Return (execution type, status) of the reports that weren't read yet."""
        return [
            (event.execution_type.value, event.state.status.value)
            for event in self.reports(account)
        ]


def positions(events: list[Event]) -> dict[str, dict[str, tuple[int, int]]]:
    """Return the latest balances among the account position events."""
    told: dict[str, dict[str, tuple[int, int]]] = {}
    for event in events:
        if isinstance(event, AccountPositionEvent):
            rows = told.setdefault(event.account_id, {})
            rows.update({asset: (free, locked) for asset, free, locked in event.balances})
    return told


def audit(engine: Engine) -> None:
    """Check that money is conserved, nothing is negative, and open orders lock what they need."""
    total: Counter[str] = Counter(engine.ledger.fees)
    for account in (*engine.accounts.values(), engine.house):
        needed: Counter[str] = Counter()
        if not account.is_house:
            for order in engine.open_orders(account.account_id):
                spec = engine.spec(order.symbol)
                needed[spec.quote_asset if order.side is Side.BUY else spec.base_asset] += need(
                    order
                )
        for asset, balance in account.balances.items():
            assert balance.free >= 0, (account.account_id, asset, balance)
            assert balance.in_orders == needed[asset], (account.account_id, asset, balance, needed)
            assert balance.external >= 0
            total[asset] += balance.free + balance.locked
    assert {asset: amount for asset, amount in total.items() if amount} == {
        asset: amount for asset, amount in engine.ledger.issued.items() if amount
    }


def need(order: Order) -> int:
    """Return the amount an open order must hold, computed only from the order itself."""
    left = order.quantity - order.executed_quantity - order.prevented_quantity
    if order.side is Side.SELL:
        return left
    return (order.price or order.stop_price or order.lock_price) * left // SCALE
