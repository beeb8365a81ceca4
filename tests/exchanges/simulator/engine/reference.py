"""Match orders in the simplest way: one list of orders, searched again at every step.

Written for the tests from the exchange's documentation alone. It has no money.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from exchanges.simulator.engine.enums import OrderType, Side, StpMode, TimeInForce
from exchanges.simulator.engine.types import NewOrder


@dataclass
class Row:
    order_id: int
    account: str
    request: NewOrder
    quantity: int
    shown: int = 0
    queue: int = 0
    executed: int = 0
    prevented: int = 0
    status: str = "NEW"
    where: str = "nowhere"  # or "book", "waiting", "triggered"

    @property
    def left(self) -> int:
        return self.quantity - self.executed - self.prevented

    @property
    def limit(self) -> int:
        return self.request.price or 0

    @property
    def mode(self) -> StpMode:
        return self.request.stp_mode or StpMode.NONE


@dataclass
class Reference:
    rows: dict[int, Row] = field(default_factory=dict)
    trades: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  # taker, maker, quantity, price
    last: int = 0
    queue: int = 0
    triggered: list[Row] = field(default_factory=list)

    def place(self, order_id: int, account: str, request: NewOrder) -> None:
        """Place an order that the engine accepted."""
        row = self.rows[order_id] = Row(order_id, account, request, request.quantity or 0)
        if request.stop_price is not None:
            row.where = "waiting"
        else:
            self._execute(row)
        self._run_triggered()

    def cancel(self, order_id: int) -> None:
        self.rows[order_id].where = "nowhere"
        self.rows[order_id].status = "CANCELED"

    def print_price(self, price: int) -> None:
        self._moved(price)
        self._run_triggered()

    def depth(self, side: Side) -> list[tuple[int, int]]:
        """Return the levels of one side, best first."""
        shown: dict[int, int] = {}
        for row in self.rows.values():
            if row.where == "book" and row.request.side is side:
                shown[row.limit] = shown.get(row.limit, 0) + row.shown
        return sorted(shown.items(), reverse=side is Side.BUY)

    # ---------------------------------------------------------------------------------------- steps

    def _best(self, taker: Row) -> Row | None:
        buys = taker.request.side is Side.BUY
        makers = [
            row
            for row in self.rows.values()
            if row.where == "book"
            and row.request.side is not taker.request.side
            and (
                not taker.limit or (row.limit <= taker.limit if buys else row.limit >= taker.limit)
            )
        ]
        return min(
            makers, key=lambda row: (row.limit if buys else -row.limit, row.queue), default=None
        )

    def _execute(self, row: Row) -> None:
        immediate = row.request.time_in_force
        if immediate is TimeInForce.FOK and not self._can_fill(row):
            row.status = "EXPIRED"
            return
        while row.left and row.status in ("NEW", "PARTIALLY_FILLED"):
            maker = self._best(row)
            if maker is None:
                break
            if row.mode is not StpMode.NONE and maker.account == row.account:
                self._prevent(row, maker)
            else:
                self._trade(row, maker)
        if row.status not in ("NEW", "PARTIALLY_FILLED"):
            return
        if not row.limit or immediate in (TimeInForce.IOC, TimeInForce.FOK):
            row.status = "EXPIRED"
        else:
            self._rest(row)

    def _rest(self, row: Row) -> None:
        self.queue += 1
        row.queue = self.queue
        row.where = "book"
        row.shown = min(row.request.iceberg_quantity or row.left, row.left)

    def _can_fill(self, row: Row) -> bool:
        """Try to fill the order on a copy of everything."""
        copy = Reference(queue=self.queue)
        for other in self.rows.values():
            copy.rows[other.order_id] = Row(
                **{name: getattr(other, name) for name in Row.__dataclass_fields__}
            )
        trial = copy.rows[row.order_id]
        while trial.left:
            maker = copy._best(trial)
            if maker is None:
                return False
            if trial.mode is not StpMode.NONE and maker.account == trial.account:
                if trial.mode in (StpMode.EXPIRE_TAKER, StpMode.EXPIRE_BOTH):
                    return False
                copy._prevent(trial, maker)
            else:
                copy._trade(trial, maker)
        return True

    def _trade(self, taker: Row, maker: Row) -> None:
        quantity = min(taker.left, maker.shown)
        for row in (taker, maker):
            row.executed += quantity
            row.status = "PARTIALLY_FILLED" if row.left else "FILLED"
        self._lose(maker, quantity)
        self.trades.append((taker.order_id, maker.order_id, quantity, maker.limit))
        self._moved(maker.limit)

    def _lose(self, maker: Row, quantity: int) -> None:
        if not maker.left:
            maker.where = "nowhere"
        elif quantity >= maker.shown:
            self._rest(maker)
        else:
            maker.shown -= quantity

    def _prevent(self, taker: Row, maker: Row) -> None:
        both = min(taker.left, maker.shown)
        taker_loss, maker_loss = {
            StpMode.EXPIRE_TAKER: (taker.left, 0),
            StpMode.EXPIRE_MAKER: (0, maker.left),
            StpMode.EXPIRE_BOTH: (taker.left, maker.left),
            StpMode.DECREMENT: (both, both),
        }[taker.mode]
        for row, loss in ((taker, taker_loss), (maker, maker_loss)):
            row.prevented += loss
            if loss and not row.left:
                row.status = "EXPIRED_IN_MATCH"
        if maker_loss:
            self._lose(maker, maker_loss)

    # ---------------------------------------------------------------------------------------- stops

    def _moved(self, price: int) -> None:
        self.last = price
        reached = [
            row
            for row in self.rows.values()
            if row.where == "waiting" and self._is_reached(row, price)
        ]
        reached.sort(
            key=lambda row: (not _rises(row.request), _nearness(row.request), row.order_id)
        )
        for row in reached:
            row.where = "triggered"
            self.triggered.append(row)

    def _is_reached(self, row: Row, price: int) -> bool:
        stop = row.request.stop_price or 0
        return price >= stop if _rises(row.request) else price <= stop

    def _run_triggered(self) -> None:
        while self.triggered:
            row = self.triggered.pop(0)
            row.where = "nowhere"
            self._execute(row)


def _rises(request: NewOrder) -> bool:
    """Check whether the order triggers when the price goes up to its stop price."""
    loss = request.order_type in (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)
    return loss == (request.side is Side.BUY)


def _nearness(request: NewOrder) -> int:
    stop = request.stop_price or 0
    return stop if _rises(request) else -stop
