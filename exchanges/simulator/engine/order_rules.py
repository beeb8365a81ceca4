"""Check the parameters that each order type needs and forbids, and the symbol's own limits."""

from __future__ import annotations

from exchanges.simulator.engine.enums import STOP_TYPES, OrderType, StpMode, TimeInForce
from exchanges.simulator.engine.symbol_spec import SymbolSpec
from exchanges.simulator.engine.types import EngineError, NewOrder

# The API's names for the attributes of NewOrder.
_NAMES = {
    "time_in_force": "timeInForce",
    "quantity": "quantity",
    "quote_quantity": "quoteOrderQty",
    "price": "price",
    "stop_price": "stopPrice",
    "trailing_delta": "trailingDelta",
    "iceberg_quantity": "icebergQty",
}
_LIMIT = ("time_in_force", "price", "quantity")
_REQUIRED: dict[OrderType, tuple[str, ...]] = {
    OrderType.LIMIT: _LIMIT,
    OrderType.LIMIT_MAKER: ("price", "quantity"),
    OrderType.MARKET: (),
    OrderType.STOP_LOSS: ("quantity",),
    OrderType.TAKE_PROFIT: ("quantity",),
    OrderType.STOP_LOSS_LIMIT: _LIMIT,
    OrderType.TAKE_PROFIT_LIMIT: _LIMIT,
}
_TRIGGER = ("stop_price", "trailing_delta")
_OPTIONAL: dict[OrderType, tuple[str, ...]] = {
    OrderType.LIMIT: ("iceberg_quantity",),
    OrderType.LIMIT_MAKER: ("iceberg_quantity",),
    OrderType.MARKET: ("quantity", "quote_quantity"),
    OrderType.STOP_LOSS: _TRIGGER,
    OrderType.TAKE_PROFIT: _TRIGGER,
    OrderType.STOP_LOSS_LIMIT: (*_TRIGGER, "iceberg_quantity"),
    OrderType.TAKE_PROFIT_LIMIT: (*_TRIGGER, "iceberg_quantity"),
}
_FORBIDDEN = {
    kind: tuple(
        name for name in _NAMES if name not in _REQUIRED[kind] and name not in _OPTIONAL[kind]
    )
    for kind in OrderType
}
_UNSUPPORTED = {
    OrderType.LIMIT: "Limit orders are not supported for this symbol.",
    OrderType.LIMIT_MAKER: "Limit maker orders are not supported for this symbol.",
    OrderType.MARKET: "Market orders are not supported for this symbol.",
    OrderType.STOP_LOSS: "Stop loss orders are not supported for this symbol.",
    OrderType.STOP_LOSS_LIMIT: "Stop loss limit orders are not supported for this symbol.",
    OrderType.TAKE_PROFIT: "Take profit orders are not supported for this symbol.",
    OrderType.TAKE_PROFIT_LIMIT: "Take profit limit orders are not supported for this symbol.",
}
MIN_STRATEGY_TYPE = 1_000_000


def check_parameters(request: NewOrder) -> None:
    """Check the parameters of an order.

    Raises -1102 for a missing parameter, -1106 for one that the order type doesn't take, and other
    codes for bad values and combinations.
    """
    kind = request.order_type
    for name in _REQUIRED[kind]:
        if getattr(request, name) is None:
            raise EngineError(
                -1102,
                f"Mandatory parameter '{_NAMES[name]}' was not sent, was empty/null, or malformed.",
            )
    if kind is OrderType.MARKET and request.quantity is None and request.quote_quantity is None:
        raise EngineError(
            -1102, "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!"
        )
    if kind in STOP_TYPES and request.stop_price is None and request.trailing_delta is None:
        raise EngineError(
            -1102, "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!"
        )
    for name in _FORBIDDEN[kind]:
        if getattr(request, name) is not None:
            raise EngineError(-1106, f"Parameter '{_NAMES[name]}' sent when not required.")
    if request.quantity is not None and request.quote_quantity is not None:
        raise EngineError(-1106, "Parameter 'quoteOrderQty' sent when not required.")
    if request.strategy_type is not None and request.strategy_type < MIN_STRATEGY_TYPE:
        raise EngineError(-1134, f"`strategyType` was less than {MIN_STRATEGY_TYPE}.")
    _check_values(request)


def _check_values(request: NewOrder) -> None:
    if request.quantity is not None and request.quantity <= 0:
        raise EngineError(-1013, "Invalid quantity.")
    if request.quote_quantity is not None and request.quote_quantity <= 0:
        raise EngineError(-1013, "Invalid quote order qty.")
    if request.price is not None and request.price <= 0:
        raise EngineError(-1013, "Invalid price.")
    if request.iceberg_quantity:
        if request.time_in_force not in (None, TimeInForce.GTC):
            raise EngineError(-1014, "Unsupported order combination.")
        if request.iceberg_quantity > (request.quantity or 0):
            raise EngineError(-1013, "IcebergQty exceeds QTY.")


def check_symbol(spec: SymbolSpec, request: NewOrder) -> None:
    """Raise -1013 with the documented sentence if the symbol doesn't allow the order."""
    if request.order_type not in spec.order_types:
        raise EngineError(-1013, _UNSUPPORTED[request.order_type])
    if request.iceberg_quantity and not spec.iceberg_allowed:
        raise EngineError(-1013, "Iceberg orders are not supported for this symbol.")
    if request.quote_quantity is not None and not spec.quote_order_qty_market_allowed:
        raise EngineError(-1013, "Quote order qty market orders are not support for this symbol.")
    if request.trailing_delta is not None and not spec.allow_trailing_stop:
        raise EngineError(-1013, "Trailing stop orders are not supported for this symbol.")
    if request.stp_mode is not None and not allows_stp(spec, request.stp_mode):
        raise EngineError(
            -1013, "This symbol does not allow the specified self-trade prevention mode."
        )


def allows_stp(spec: SymbolSpec, mode: StpMode) -> bool:
    return mode in spec.allowed_stp_modes
