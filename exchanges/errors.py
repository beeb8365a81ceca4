"""What can go wrong with a call to an exchange, named by what the caller must do.

    GatewayError
    ├── OutcomeUnknown   bytes may have left and no trustworthy answer came: keep the status, resolve
    ├── NotSent          certainly not executed, may be tried again                      .retry_after
    ├── OrderRejected    certainly refused, final                                        .code .message
    ├── OrderNotFound    the exchange does not know it now: an answer, never a verdict by itself
    ├── DuplicateOrder   this client order id is live already: adopt it, a success in disguise
    └── AccountError     key, permission, ban: stop the account, tell a person

Every error carries `code` and `http_status` (None where there was none) and `message`, the exchange's own words
without any credential. `TABLE` decides which one it is; what no row names is `OutcomeUnknown`, so that an answer nobody
foresaw is asked about and never taken for a refusal. HTTP clients' own exceptions are never chained: their texts hold
signed URLs.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum


class GatewayError(Exception):
    """A call to the exchange did not give what it was made for."""

    def __init__(self, message: str, *, code: int | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status

    def __str__(self) -> str:
        facts = [f"code {self.code}"] if self.code is not None else []
        facts += [f"HTTP {self.http_status}"] if self.http_status is not None else []
        return f"{self.message} ({', '.join(facts)})" if facts else self.message


class OutcomeUnknown(GatewayError):
    """The request may have been executed; only the exchange can say."""


class NotSent(GatewayError):
    """The request was certainly not executed. `retry_after`: seconds the exchange asks for, None if it named none."""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after = retry_after


class OrderRejected(GatewayError):
    """The exchange refused the request, finally."""


class OrderNotFound(GatewayError):
    """The exchange does not know the order now. Right after a placement that can be a false negative."""


class DuplicateOrder(GatewayError):
    """An open order has this client order id already: an earlier attempt of ours is live."""


class AccountError(GatewayError):
    """The key, its permissions or the account itself are refused; nothing of this account will pass."""


class Transport(StrEnum):
    """How far a request got."""

    UNSENT = "unsent"  # refused on our side, or no connection was made: no byte of it left
    LOST = "lost"  # bytes may have left, no complete answer came back
    ANSWERED = "answered"  # a complete HTTP response


class Call(StrEnum):
    """What the request asks for, as far as the meaning of an answer depends on it."""

    PLACE = "place"
    CANCEL = "cancel"
    READ = "read"


ANY_CALL = frozenset(Call)
CLIENT_ERROR = range(400, 500)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. A condition that is left out holds for everything.

    `texts` are compared without a trailing full stop; one that ends in `*` is a beginning.
    """

    error: type[GatewayError]
    why: str
    transport: Transport = Transport.ANSWERED
    statuses: Container[int] | None = None
    codes: frozenset[int] | None = None
    texts: tuple[str, ...] = ()
    calls: frozenset[Call] = ANY_CALL

    def covers(self, call: Call, transport: Transport, http_status: int | None, code: int | None, text: str) -> bool:
        return (
            transport is self.transport
            and call in self.calls
            and (self.statuses is None or http_status in self.statuses)
            and (self.codes is None or code in self.codes)
            and (not self.texts or any(_matches(text, known) for known in self.texts))
        )


# The matching engine's refusals share these codes; which refusal it is stands only in the text.
ENGINE_CODES = frozenset({-1010, -2010, -2011, -2038})

TRANSPORT_ROWS = (
    Row(NotSent, "no connection, or refused on our side: no byte left", transport=Transport.UNSENT),
    Row(OutcomeUnknown, "may have been executed, the answer is lost", transport=Transport.LOST),
)

HTTP_ROWS = (
    Row(OutcomeUnknown, "5xx is documented as not a failure: execution status unknown", statuses=range(500, 600)),
    Row(NotSent, "429: request weight or order count, refused before execution", statuses=(429,)),
    Row(NotSent, "418: the IP is banned for a while", statuses=(418,)),
    Row(NotSent, "403: blocked in front of the API, usually HTML", statuses=(403,)),
    Row(OutcomeUnknown, "409: one of two requests of a cancel-replace went through", statuses=(409,)),
    Row(AccountError, "401: key refused", statuses=(401,)),
    Row(AccountError, "451: location refused", statuses=(451,)),
)

TEXT_ROWS = (
    Row(
        OrderNotFound,
        "not open: filled, cancelled, expired, never there or not visible yet",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=("Unknown order sent",),
        calls=frozenset({Call.CANCEL}),
    ),
    Row(
        DuplicateOrder,
        "an open order has this id: proof that an earlier attempt is live",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=("Duplicate order sent",),
        calls=frozenset({Call.PLACE}),
    ),
    Row(
        AccountError,
        "the account is blocked, or may not trade this symbol",
        statuses=CLIENT_ERROR,
        codes=ENGINE_CODES,
        texts=(
            "This action is disabled on this account",
            "This account may not place or cancel orders",
            "This symbol is not permitted for this account",
            "This symbol is restricted for this account",
        ),
    ),
    Row(
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
    Row(
        OrderRejected,
        "a filter of the symbol or of the account refused the figures",
        statuses=CLIENT_ERROR,
        codes=frozenset({-1013, -2010}),
        texts=("Filter failure: *",),
    ),
)

# fmt: off
CODE_ROWS = (
    Row(OutcomeUnknown, "internal fault or overload: nothing is promised about execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1000, -1001, -1006, -1007, -1008, -1016})),
    # -1004 is not in today's documentation; older lists call it "server is busy", which proves nothing.
    Row(OutcomeUnknown, "undocumented busy code", statuses=CLIENT_ERROR, codes=frozenset({-1004})),
    Row(OutcomeUnknown, "the answer could not be encoded, the request may have been executed",
        statuses=CLIENT_ERROR, codes=frozenset({-1161})),
    Row(OutcomeUnknown, "one half of a cancel-replace went through", statuses=CLIENT_ERROR, codes=frozenset({-2021})),
    Row(NotSent, "a limiter refused it before execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1003, -1015, -1034, -1181})),
    Row(NotSent, "the timestamp check failed, which comes before execution",
        statuses=CLIENT_ERROR, codes=frozenset({-1021})),
    Row(AccountError, "key, permission or signature refused",
        statuses=CLIENT_ERROR, codes=frozenset({-1002, -1022, -1099, -2008, -2014, -2015})),
    Row(OrderNotFound, "no open order to cancel, by a text not listed above",
        statuses=CLIENT_ERROR, codes=frozenset({-2011}), calls=frozenset({Call.CANCEL})),
    Row(OrderNotFound, "no such order, or archived after 90 days without a fill",
        statuses=CLIENT_ERROR, codes=frozenset({-2013, -2026}), calls=frozenset({Call.CANCEL, Call.READ})),
    Row(OrderRejected, "refused by validation: it never reached the matching engine", statuses=CLIENT_ERROR,
        codes=frozenset({
            -1013, -1014, -1020, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1108, -1111, -1114, -1115, -1116,
            -1117, -1118, -1119, -1120, -1121, -1122, -1127, -1128, -1130, -1131, -1134, -1135, -1139, -1145, -1151,
            -1152, -1153, -1155, -1158, -1160, -1165, -1166, -1168, -1182, -1194, -1196, -1197, -1198, -1199, -1210,
            -1211, -1220, -1221, -1222, -1223, -1224, -1225,
        })),
    Row(OrderRejected, "refused by the matching engine: nothing was placed or changed",
        statuses=CLIENT_ERROR, codes=frozenset({-1010, -1112, -2010, -2022, -2038})),
)
# fmt: on

# First match wins. A place or cancel that no row covers is OutcomeUnknown, and so is a read: a failed question is
# never evidence. Codes without a row on purpose: FIX sessions (-1033, -1035, -1169 to -1180, -1183 to -1191),
# stream subscriptions (-1125, -2035, -2036, -2042), market data (-2016, -2043), mismatching ids of one query (-2039).
TABLE = (*TRANSPORT_ROWS, *HTTP_ROWS, *TEXT_ROWS, *CODE_ROWS)


def classify(
    *,
    call: Call,
    transport: Transport = Transport.ANSWERED,
    http_status: int | None = None,
    code: int | None = None,
    message: str = "",
) -> type[GatewayError]:
    """Which error an outcome is. Pure; knows nothing of success: ask only about what was not the expected answer."""
    for row in TABLE:
        if row.covers(call, transport, http_status, code, message):
            return row.error
    return OutcomeUnknown


def error_for(
    *,
    call: Call,
    message: str,
    transport: Transport = Transport.ANSWERED,
    http_status: int | None = None,
    code: int | None = None,
    retry_after: float | None = None,
) -> GatewayError:
    """The error of an outcome, ready to raise. `message` must be free of credentials already."""
    error = classify(call=call, transport=transport, http_status=http_status, code=code, message=message)
    if issubclass(error, NotSent):
        return error(message, code=code, http_status=http_status, retry_after=retry_after)
    return error(message, code=code, http_status=http_status)


def _matches(text: str, known: str) -> bool:
    if known.endswith("*"):
        return text.startswith(known[:-1])
    return text.strip().removesuffix(".") == known
