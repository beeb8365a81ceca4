"""Place and cancel orders."""

from __future__ import annotations

from typing import Any

from exchanges.simulator import errors
from exchanges.simulator.api.operations import Call, Operation, Security, Step, operation
from exchanges.simulator.api.params import Params
from exchanges.simulator.api.render import account as render_account
from exchanges.simulator.api.render import orders as render
from exchanges.simulator.engine.enums import (
    CancelRestriction,
    OrderType,
    Side,
    StpMode,
    TimeInForce,
)
from exchanges.simulator.engine.types import Cancellation, EngineError, NewOrder
from exchanges.simulator.errors import ApiError

ORDER_NAMES = (
    "symbol* side* type* timeInForce quantity quoteOrderQty price newClientOrderId strategyId "
    "strategyType stopPrice trailingDelta icebergQty newOrderRespType selfTradePreventionMode"
)
_SIDES = {side.value: side for side in Side}
_TYPES = {kind.value: kind for kind in OrderType}
_TIMES = {time.value: time for time in TimeInForce}
_STP_MODES = {mode.value: mode for mode in StpMode}
_RESTRICTIONS = {item.value: item for item in CancelRestriction}
RESPONSE_TYPES = {
    "ACK": render.placement_ack,
    "RESULT": render.placement_result,
    "FULL": render.placement_full,
}
_FULL_BY_DEFAULT = (OrderType.MARKET, OrderType.LIMIT)
MIN_STRATEGY_TYPE = 1_000_000
_BAD_RESTRICTION = ApiError(
    -1145, "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`."
)


def read_order(params: Params) -> NewOrder:
    """Read the order from a request. The engine checks the parameters of its type."""
    symbol = params.required_symbol()
    params.required_text("side")
    params.required_text("type")
    side = _SIDES.get(params.values["side"])
    if side is None:
        raise ApiError(-1117, "Invalid side.")
    kind = _TYPES.get(params.values["type"])
    if kind is None:
        raise ApiError(-1116, "Invalid orderType.")
    time = None
    if params.text("timeInForce") is not None:
        time = _TIMES.get(params.values["timeInForce"])
        if time is None:
            raise ApiError(-1115, "Invalid timeInForce.")
    order = NewOrder(
        symbol=symbol,
        side=side,
        order_type=kind,
        time_in_force=time,
        quantity=params.units("quantity"),
        quote_quantity=params.units("quoteOrderQty", "quote order qty"),
        price=params.units("price"),
        client_order_id=params.client_id("newClientOrderId"),
    )
    _read_rarer(params, order)
    return order


def _read_rarer(params: Params, order: NewOrder) -> None:
    order.stop_price = params.units("stopPrice")
    order.trailing_delta = params.integer("trailingDelta")
    order.iceberg_quantity = params.units("icebergQty")
    order.strategy_id = params.integer("strategyId")
    order.strategy_type = params.integer("strategyType", maximum=2**31 - 1)
    if order.strategy_type is not None and order.strategy_type < MIN_STRATEGY_TYPE:
        raise ApiError(-1134, "`strategyType` was less than 1000000.")
    mode = params.choice("selfTradePreventionMode", _STP_MODES)
    order.stp_mode = None if mode is None else _STP_MODES[mode]


def place(call: Call) -> Step:
    order = read_order(call.params)
    answer = call.params.choice("newOrderRespType", RESPONSE_TYPES)
    if answer is None:
        answer = "FULL" if order.order_type in _FULL_BY_DEFAULT else "ACK"
    renderer = RESPONSE_TYPES[answer]

    def step() -> Any:
        placement = call.exchange.engine.place(call.account, order)
        if call.invisible_for:
            call.exchange.hide(placement.order, call.invisible_for)
        return renderer(placement, call.unit)

    return step


def test_order(call: Call) -> Step:
    order = read_order(call.params)
    call.params.choice("newOrderRespType", RESPONSE_TYPES)
    with_rates = call.params.boolean("computeCommissionRates", False)

    def step() -> Any:
        engine = call.exchange.engine
        engine.test_order(call.account, order)
        if not with_rates:
            return {}
        return render_account.test_commission_row(
            engine.account(call.account).commission_for(order.symbol)
        )

    return step


def test_order_weight(params: Params) -> int:
    return 20 if params.values.get("computeCommissionRates", "").lower() == "true" else 1


def cancel(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    order_id = params.integer("orderId")
    orig = params.text("origClientOrderId")
    if order_id is None and orig is None:
        raise errors.one_of_two("origClientOrderId", "orderId")
    new_id = params.client_id("newClientOrderId")
    name = params.choice("cancelRestrictions", _RESTRICTIONS, _BAD_RESTRICTION)

    def step() -> Any:
        exchange = call.exchange
        if _hides(call):
            _refuse_hidden(call, symbol, order_id, orig, -2011)
        cancellation = exchange.engine.cancel(
            call.account,
            symbol,
            order_id=order_id,
            orig_client_order_id=orig,
            new_client_order_id=new_id,
            restriction=None if name is None else _RESTRICTIONS[name],
        )
        return _cancel_row(call, cancellation)

    return step


def _hides(call: Call) -> bool:
    return bool(call.exchange.hidden) and call.api != "hand"


def _refuse_hidden(
    call: Call, symbol: str, order_id: int | None, orig: str | None, code: int
) -> None:
    try:
        order = call.exchange.engine.order(
            call.account, symbol, order_id=order_id, orig_client_order_id=orig
        )
    except EngineError:
        return  # the engine itself raises the right error
    if call.exchange.is_hidden(symbol, order.order_id):
        raise errors.unknown_order(code)


def _cancel_row(call: Call, cancellation: Cancellation) -> Any:
    state = call.exchange.engine.order_state(cancellation.order)
    assert state is not None  # the order exists, because it was just canceled
    return render.cancel_row(cancellation, state, call.unit)


def amend(call: Call) -> Step:
    params = call.params
    symbol = params.required_symbol()
    order_id = params.integer("orderId")
    orig = params.text("origClientOrderId")
    if order_id is None and orig is None:
        raise errors.one_of_two("origClientOrderId", "orderId")
    new_id = params.client_id("newClientOrderId")
    params.required_text("newQty")
    quantity = params.units("newQty", "quantity")
    assert quantity is not None  # the line above requires it

    def step() -> Any:
        exchange = call.exchange
        if _hides(call):
            _refuse_hidden(call, symbol, order_id, orig, -2038)
        amendment = exchange.engine.amend(
            call.account,
            symbol,
            quantity,
            order_id=order_id,
            orig_client_order_id=orig,
            new_client_order_id=new_id,
        )
        return render.amended_row(amendment, amendment.order.history[-1], call.unit)

    return step


def cancel_all(call: Call) -> Step:
    symbol = call.params.required_symbol()

    def step() -> Any:
        exchange = call.exchange
        if not _hides(call):
            done = exchange.engine.cancel_all(call.account, symbol)
        else:
            exchange.engine.spec(symbol)
            seen = [
                order
                for order in exchange.engine.open_orders(call.account, symbol)
                if not exchange.is_hidden(symbol, order.order_id)
            ]
            if not seen:
                raise errors.unknown_order()
            done = [
                exchange.engine.cancel(call.account, symbol, order_id=order.order_id)
                for order in seen
            ]
        return [_cancel_row(call, cancellation) for cancellation in done]

    return step


TRADING_OPERATIONS: tuple[Operation, ...] = (
    operation(
        "POST /api/v3/order",
        "order.place",
        1,
        ORDER_NAMES,
        place,
        Security.TRADE,
        free=True,
        places=True,
        engine=True,
    ),
    operation(
        "POST /api/v3/order/test",
        "order.test",
        test_order_weight,
        ORDER_NAMES + " computeCommissionRates",
        test_order,
        Security.TRADE,
    ),
    operation(
        "DELETE /api/v3/order",
        "order.cancel",
        1,
        "symbol* orderId origClientOrderId newClientOrderId cancelRestrictions",
        cancel,
        Security.TRADE,
        free=True,
        engine=True,
    ),
    operation(
        "PUT /api/v3/order/amend/keepPriority",
        "order.amend.keepPriority",
        4,
        "symbol* orderId origClientOrderId newClientOrderId newQty*",
        amend,
        Security.TRADE,
        engine=True,
    ),
    operation(
        "DELETE /api/v3/openOrders",
        "openOrders.cancelAll",
        1,
        "symbol*",
        cancel_all,
        Security.TRADE,
        free=True,
        engine=True,
    ),
)
