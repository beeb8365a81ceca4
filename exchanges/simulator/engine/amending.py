"""Check an amendment before it reduces the quantity of an open order."""

from __future__ import annotations

from exchanges.simulator.engine.admission import MARKET_CLOSED
from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.filters import AMEND_REJECTED
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.types import Account, EngineError, Order


def check_market(market: Market, account: Account) -> None:
    """Check that the account may amend orders of the symbol. Raise -2038 if not."""
    if not account.can_trade:
        raise EngineError(AMEND_REJECTED, "This account may not place or cancel orders.")
    if not market.spec.amend_allowed:
        raise EngineError(AMEND_REJECTED, "Order amend is not supported for this symbol.")
    if market.status is not SymbolStatus.TRADING:
        raise EngineError(AMEND_REJECTED, MARKET_CLOSED)


def check_order(
    context: Context, market: Market, order: Order, quantity: int, client_order_id: str
) -> None:
    """Check the new quantity and the new client order id.

    Raises -2038 if the engine refuses them, and -1013 if a filter does.
    """
    if quantity > order.quantity:
        raise EngineError(AMEND_REJECTED, "Order amend (quantity increase) is not supported.")
    if quantity == order.quantity:
        raise EngineError(AMEND_REJECTED, "The requested action would change no state; rejecting")
    market.filters.check_amendment(order.price, quantity, len(order.amendments))
    holder = context.stores[order.account_id].open_by_client.get(client_order_id)
    if holder is not None and holder is not order:
        raise EngineError(AMEND_REJECTED, "Duplicate order sent.")
