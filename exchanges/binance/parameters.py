"""Write the parameters of a request, and check that its answer is about it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from exchanges.binance import messages
from exchanges.binance.error_table import error_for
from exchanges.binance.http import HttpResult
from exchanges.errors import GatewayError
from exchanges.types import CallKind, OrderReport


def present(**parameters: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def listed(symbols: Sequence[str] | None) -> str | None:
    """Return symbols as Binance takes a list. None stands for all of them."""
    if symbols is None:
        return None
    return json.dumps([*symbols], separators=(",", ":"), ensure_ascii=False)


def order_parameters(
    symbol: str, client_order_id: str | None, exchange_order_id: str | None
) -> dict[str, str]:
    if client_order_id is None and exchange_order_id is None:
        raise TypeError("client_order_id or exchange_order_id is needed")
    return present(symbol=symbol, orderId=exchange_order_id, origClientOrderId=client_order_id)


def expected(
    report: OrderReport, symbol: str, client_order_id: str | None, exchange_order_id: str | None
) -> OrderReport:
    messages.expect_order(
        report, symbol=symbol, client_order_id=client_order_id, exchange_order_id=exchange_order_id
    )
    return report


def error_of(result: HttpResult, kind: CallKind) -> GatewayError | None:
    """Return the error, or None for HTTP 200 with a JSON body that is not an error object."""
    if result.status == 200 and result.is_json and result.code is None:
        return None
    return error_for(
        kind=kind,
        message=result.message,
        transport=result.transport,
        http_status=result.status,
        code=result.code,
        retry_after=result.retry_after,
    )
