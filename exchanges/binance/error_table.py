"""Name each outcome of a request by the action that it requires of the caller."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.types import CallKind


class Transport(StrEnum):
    """The point that a request reached."""

    UNSENT = "unsent"  # refused on our side, or no connection was made: no byte of it left
    LOST = "lost"  # bytes may have left, no complete answer came back
    ANSWERED = "answered"  # a complete HTTP response


ANY_KIND = frozenset(CallKind)


CLIENT_ERROR = range(400, 500)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the table. A condition that is left out holds for everything.

    `texts` are compared without a trailing full stop. One that ends in `*` is a prefix.
    """

    error: type[GatewayError]
    why: str
    transport: Transport = Transport.ANSWERED
    statuses: Container[int] | None = None
    codes: frozenset[int] | None = None
    texts: tuple[str, ...] = ()
    kinds: frozenset[CallKind] = ANY_KIND

    def covers(
        self,
        kind: CallKind,
        transport: Transport,
        http_status: int | None,
        code: int | None,
        text: str,
    ) -> bool:
        return (
            transport is self.transport
            and kind in self.kinds
            and (self.statuses is None or http_status in self.statuses)
            and (self.codes is None or code in self.codes)
            and (not self.texts or any(_matches(text, known) for known in self.texts))
        )


# The matching engine's refusals share these codes. Only the text says which refusal it is.
ENGINE_CODES = frozenset({-1010, -2010, -2011, -2038})


NOT_PERMITTED_TEXTS = (
    "This symbol is not permitted for this account",
    "This symbol is restricted for this account",
)
INVALID_SYMBOL = -1121
# A parameter's characters, its length or its value. The text names it.
BAD_PARAMETER_CODES = frozenset({-1100, -1101, -1105, -1130})


TRANSPORT_ROWS = (
    ErrorRow(
        NotSent, "no connection, or refused on our side: no byte left", transport=Transport.UNSENT
    ),
    ErrorRow(
        OutcomeUnknown, "may have been executed, the answer is lost", transport=Transport.LOST
    ),
)


HTTP_ROWS = (
    ErrorRow(
        OutcomeUnknown,
        "5xx is documented as not a failure: execution status unknown",
        statuses=range(500, 600),
    ),
    ErrorRow(
        NotSent, "429: request weight or order count, refused before execution", statuses=(429,)
    ),
    ErrorRow(NotSent, "418: the IP is banned for a while", statuses=(418,)),
    ErrorRow(NotSent, "403: blocked in front of the API, usually HTML", statuses=(403,)),
    ErrorRow(
        OutcomeUnknown, "409: one of two requests of a cancel-replace went through", statuses=(409,)
    ),
    ErrorRow(AccountError, "401: key refused", statuses=(401,)),
    ErrorRow(AccountError, "451: location refused", statuses=(451,)),
)


TEXT_ROWS = (
    ErrorRow(
        OrderNotFound,
        "not open: filled, canceled, expired, never there or not visible yet",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=("Unknown order sent",),
        kinds=frozenset({CallKind.CANCEL}),
    ),
    ErrorRow(
        DuplicateOrder,
        "an open order has this id: proof that an earlier attempt is live",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=("Duplicate order sent",),
        kinds=frozenset({CallKind.PLACE}),
    ),
    ErrorRow(
        AccountError,
        "the account is blocked",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=(
            "This action is disabled on this account",
            "This account may not place or cancel orders",
        ),
    ),
    ErrorRow(
        OrderRejected,
        "the account may not trade this symbol, which says nothing about its other symbols",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=NOT_PERMITTED_TEXTS,
    ),
    ErrorRow(
        OrderRejected,
        "the engine refused: not on the book, or, for a cancel, the order is left as it was",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=(
            "Account has insufficient balance for requested action",
            "Cancel order is invalid. Check origClOrdId and orderId",
            "FIX API trading is not enabled",
            "Iceberg orders are not supported for this symbol",
            "IcebergQty exceeds QTY",
            "Market is closed",
            "Market orders are not supported for this symbol",
            "OCO orders are not supported for this symbol",
            "OPO orders are not supported for this symbol",
            "Order amend (pending OPO order) is not supported",
            "Order amend (quantity increase) is not supported",
            "Order amend is not supported for this symbol",
            "Order book liquidity is less than `LOT_SIZE` filter minimum quantity",
            "Order book liquidity is less than `MARKET_LOT_SIZE` filter minimum quantity",
            "Order book liquidity is less than symbol minimum quantity",
            "Order book liquidity is too low for this pegged order",
            "Order cancel-replace is not supported for this symbol",
            "Order was not canceled due to cancel restrictions",
            "Order would immediately match and take",
            "Order would trigger immediately",
            "Pegged orders are not supported for this symbol",
            "Price * QTY is zero or less",
            "Quote order qty market orders are not support for this symbol",
            "Rest API trading is not enabled",
            "Stop loss limit orders are not supported for this symbol",
            "Stop loss orders are not supported for this symbol",
            "Take profit limit orders are not supported for this symbol",
            "Take profit orders are not supported for this symbol",
            "The relationship of the prices for the orders is not correct",
            "The requested action would change no state; rejecting*",
            "This order type may not use pegged price",
            "This price peg cannot be used with this order type",
            "Trailing stop orders are not supported for this symbol",
            "Unsupported order combination",
            "WebSocket API trading is not enabled",
        ),
    ),
    ErrorRow(
        OrderRejected,
        "a filter of the symbol or of the account refused the figures",
        statuses=CLIENT_ERROR,
        codes=frozenset({-1013, -2010}),
        texts=("Filter failure: *",),
    ),
)


# fmt: off
CODE_ROWS = (
    ErrorRow(OutcomeUnknown, "internal fault or overload: nothing is promised about execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1000, -1001, -1006, -1007, -1008, -1016})),
    # Today's documentation lacks -1004. Older lists say "server is busy", which proves nothing.
    ErrorRow(OutcomeUnknown, "undocumented busy code",
        statuses=CLIENT_ERROR, codes=frozenset({-1004})),
    ErrorRow(OutcomeUnknown, "the answer could not be encoded, the request may have been executed",
        statuses=CLIENT_ERROR, codes=frozenset({-1161})),
    ErrorRow(OutcomeUnknown, "one half of a cancel-replace went through",
        statuses=CLIENT_ERROR, codes=frozenset({-2021})),
    ErrorRow(NotSent, "a limiter refused it before execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1003, -1015, -1034, -1181})),
    ErrorRow(NotSent, "the timestamp check failed, which comes before execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1021})),
    ErrorRow(AccountError, "key, permission or signature refused",
        statuses=CLIENT_ERROR, codes=frozenset({-1002, -1022, -1099, -2008, -2014, -2015})),
    ErrorRow(OrderNotFound, "no open order to cancel, by a text not listed above",
        statuses=CLIENT_ERROR, codes=frozenset({-2011}), kinds=frozenset({CallKind.CANCEL})),
    ErrorRow(OrderNotFound, "no such order, or archived after 90 days without a fill",
        statuses=CLIENT_ERROR, codes=frozenset({-2013, -2026}),
        kinds=frozenset({CallKind.CANCEL, CallKind.READ})),
    ErrorRow(OrderNotFound, "the order with this number has another client order id",
        statuses=CLIENT_ERROR, codes=frozenset({-2039}),
        kinds=frozenset({CallKind.CANCEL, CallKind.READ})),
    ErrorRow(OrderRejected, "refused by validation: it never reached the matching engine",
        statuses=CLIENT_ERROR, codes=frozenset({
            -1013, -1014, -1020, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1108, -1111,
            -1114, -1115, -1116, -1117, -1118, -1119, -1120, -1121, -1122, -1127, -1128, -1130,
            -1131, -1134, -1135, -1139, -1145, -1151, -1152, -1153, -1155, -1158, -1160, -1165,
            -1166, -1168, -1182, -1194, -1196, -1197, -1198, -1199, -1210, -1211, -1220, -1221,
            -1222, -1223, -1224, -1225,
        })),
    ErrorRow(OrderRejected, "refused by the matching engine: nothing was placed or changed",
        statuses=CLIENT_ERROR, codes=frozenset({-1010, -1112, -2010, -2022, -2038})),
)


# fmt: on
# The first match wins. A call that no row covers is OutcomeUnknown. That includes reads, because a
# failed read proves nothing. Codes without a row on purpose: FIX sessions (-1033, -1035, -1169 to
# -1180, -1183 to -1191), stream subscriptions (-1125, -2035, -2036, -2042), market data (-2016,
# -2043).
TABLE = (*TRANSPORT_ROWS, *HTTP_ROWS, *TEXT_ROWS, *CODE_ROWS)


def classify(
    *,
    kind: CallKind,
    transport: Transport = Transport.ANSWERED,
    http_status: int | None = None,
    code: int | None = None,
    message: str = "",
) -> type[GatewayError]:
    """Return the error class for a result.

    Pure. Call it only for results that are not the expected answer, because it knows no success.
    """
    for row in TABLE:
        if row.covers(kind, transport, http_status, code, message):
            return row.error
    return OutcomeUnknown


def error_for(
    *,
    kind: CallKind,
    message: str,
    transport: Transport = Transport.ANSWERED,
    http_status: int | None = None,
    code: int | None = None,
    retry_after: float | None = None,
) -> GatewayError:
    """Make the error for a result. `message` must be free of credentials already."""
    error = classify(
        kind=kind, transport=transport, http_status=http_status, code=code, message=message
    )
    if issubclass(error, NotSent):
        return error(message, code=code, http_status=http_status, retry_after=retry_after)
    return error(message, code=code, http_status=http_status)


def is_symbol_gone(error: GatewayError) -> bool:
    """Return True if the exchange doesn't know the symbol of the request, or can't read its name.

    A list may show a symbol that the same exchange refuses in a question.
    """
    if error.code in BAD_PARAMETER_CODES:
        return "'symbol'" in error.message
    return error.code == INVALID_SYMBOL


def is_symbol_not_permitted(error: GatewayError) -> bool:
    """Return True if the account may not trade the symbol of the request."""
    return error.code in ENGINE_CODES and any(
        _matches(error.message, known) for known in NOT_PERMITTED_TEXTS
    )


def _matches(text: str, known: str) -> bool:
    if known.endswith("*"):
        return text.startswith(known[:-1])
    return text.strip().removesuffix(".") == known
