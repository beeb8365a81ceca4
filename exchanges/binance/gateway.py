"""Call an exchange: sign and send a request through ccxt, and read the answer into a report.

ccxt signs, addresses and carries requests. The rest is done here. We use its raw methods
(`private_post_order` is `POST /api/v3/order`), which take strings and return the exchange's own
JSON. The unified methods alter an order silently: they round a price half up, even above the
requested one, truncate a quantity, turn MARKET with a price into a quote amount, and return floats.
We don't use ccxt's exceptions either: they mix refusals with unknown outcomes, depend on the
host's name, and hold signed URLs. `http.py` takes the HTTP answer where it arrives, and
`error_table.TABLE` judges it.

Nothing is retried here except a read that the exchange refused for its timestamp. All calls block
and, unlike ccxt's asynchronous client, never send a DELETE twice.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from decimal import Decimal
from typing import Any, TypeVar

import structlog
from django.conf import settings

from exchanges import clock
from exchanges.binance import messages
from exchanges.binance.ccxt_clients import rest_client
from exchanges.binance.endpoint_costs import limits_request, limits_response
from exchanges.binance.http import Sender, Wire
from exchanges.binance.json_fields import Malformed
from exchanges.binance.page_lengths import may_go_on
from exchanges.binance.parameters import error_of, expected, listed, order_parameters, present
from exchanges.binance.server_clock import clock_of
from exchanges.credentials import Account, Credentials
from exchanges.errors import GatewayError, NotSent, OutcomeUnknown
from exchanges.instrument_rules import ExchangeInfo, InstrumentRules
from exchanges.limits import budget as limits
from exchanges.limits import counters, sizes
from exchanges.limits.budget import Permit
from exchanges.types import (
    AccountReport,
    Amendment,
    BidAsk,
    CallKind,
    Candle,
    FillReport,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    ReportSource,
    Rows,
    TradeReport,
)

TIMESTAMP_REFUSED = -1021


T = TypeVar("T")


log = structlog.get_logger(__name__)


class Gateway:
    """Call one account's exchange, from one thread: a gateway keeps a connection open.

    Get it from `registry.get_gateway`. Every method raises a `GatewayError` (see the tree in
    `errors.py`). An answer of another shape, or about another order, is `OutcomeUnknown`.
    """

    def __init__(self, account: Account, credentials: Credentials) -> None:
        self.account_name = account.name
        self._account = account
        self._host = credentials.hosts.rest_url
        self._wire: Sender = Wire(
            rest_client(credentials),
            secrets=(credentials.api_key, credentials.api_secret),
            read_timeout_seconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS / 1000,
        )
        self._clock = clock_of(credentials.hosts.rest_url)

    def __repr__(self) -> str:
        return f"<Gateway {self.account_name}>"

    def close(self) -> None:
        self._wire.close()

    # time

    def now_ms(self) -> int:
        """Return our estimate of the exchange's clock in milliseconds. Ask when it is too old.

        Raise `NotSent` if there is no estimate and the exchange doesn't answer.
        """
        return self._clock.now_ms(self._ask_time)

    def server_time_ms(self) -> int:
        """Ask for the exchange's clock now, in milliseconds."""
        return self._clock.measure(self._ask_time)

    def forget_clock(self) -> None:
        """Measure the exchange's clock again before its next use."""
        self._clock.forget()

    # orders

    def acquire_placement(self) -> Permit:
        """Acquire the right to place one order, before the claim stores its request.

        Raise `NotSent` with the seconds to wait. Use the permit in `place`, or give it back.
        """
        return self._acquire("place", CallKind.PLACE, {}, None)

    def give_back(self, permit: Permit) -> None:
        """Give back a permit that nothing was sent with."""
        limits.give_back(permit)

    def place(self, request: OrderRequest, permit: Permit | None = None) -> OrderReport:
        """Place an order, signed with the request's own timestamp and window.

        Acquire a permit unless one is given. Raise `DuplicateOrder` if it is open already.
        """
        return self._ask(
            "place",
            CallKind.PLACE,
            "private_post_order",
            messages.place_parameters(request),
            lambda body: messages.placed_order(body, request),
            client_order_id=request.client_order_id,
            permit=permit,
        )

    def cancel(
        self,
        *,
        symbol: str,
        client_order_id: str | None = None,
        exchange_order_id: str | None = None,
    ) -> OrderReport:
        """Cancel an open order. `OrderNotFound` only says that it is not open: ask for its
        state.
        """
        return self._ask(
            "cancel",
            CallKind.CANCEL,
            "private_delete_order",
            self._signed(order_parameters(symbol, client_order_id, exchange_order_id)),
            lambda body: expected(
                messages.canceled_order(body), symbol, client_order_id, exchange_order_id
            ),
            client_order_id=client_order_id,
        )

    def cancel_open_orders(self, symbol: str) -> list[OrderReport]:
        """Cancel every open order of a symbol, also those of others. Return the readable ones."""
        return self._ask(
            "cancel_open_orders",
            CallKind.CANCEL,
            "private_delete_openorders",
            self._signed({"symbol": symbol}),
            messages.canceled_orders,
        )

    def fetch_order(
        self,
        *,
        symbol: str,
        client_order_id: str | None = None,
        exchange_order_id: str | None = None,
    ) -> OrderReport:
        """Fetch one order from the exchange's query side, which may lag behind its engine."""
        return self._read(
            "fetch_order",
            "private_get_order",
            order_parameters(symbol, client_order_id, exchange_order_id),
            lambda body: expected(
                messages.queried_order(body), symbol, client_order_id, exchange_order_id
            ),
            client_order_id=client_order_id,
        )

    def fetch_open_orders(self, symbol: str | None = None) -> Rows[OrderReport]:
        """Fetch every open order of one symbol or of the account (weight 6 or 80)."""
        return self._read(
            "fetch_open_orders",
            "private_get_openorders",
            present(symbol=symbol),
            lambda body: messages.queried_orders(body, ReportSource.OPEN_ORDERS, symbol=symbol),
        )

    def fetch_all_orders(
        self,
        *,
        symbol: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        from_order_id: str | None = None,
        limit: int = 1000,
    ) -> Rows[OrderReport]:
        """Fetch orders of any state, oldest first: from an id on, or of at most 24 hours by
        time.
        """
        parameters = present(
            symbol=symbol, orderId=from_order_id, startTime=start_ms, endTime=end_ms, limit=limit
        )
        page = self._read(
            "fetch_all_orders",
            "private_get_allorders",
            parameters,
            lambda body: messages.queried_orders(body, ReportSource.ALL_ORDERS, symbol=symbol),
        )
        page.may_go_on = may_go_on(self._host, "allOrders", page.length, limit)
        return page

    def fetch_amendments(self, *, symbol: str, exchange_order_id: str) -> list[Amendment]:
        """Fetch the changes of an order's quantity and client order id, oldest first."""
        return self._read(
            "fetch_amendments",
            "private_get_order_amendments",
            present(symbol=symbol, orderId=exchange_order_id),
            lambda body: messages.amendments(body, symbol, exchange_order_id),
        )

    def fetch_trades(
        self,
        *,
        symbol: str,
        exchange_order_id: str | None = None,
        from_trade_id: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 1000,
    ) -> Rows[FillReport]:
        """Fetch our trades of a symbol, oldest first.

        The exchange refuses an id together with a time, except order id and trade id.
        """
        parameters = present(
            symbol=symbol,
            orderId=exchange_order_id,
            fromId=from_trade_id,
            startTime=start_ms,
            endTime=end_ms,
            limit=limit,
        )
        page = self._read(
            "fetch_trades",
            "private_get_mytrades",
            parameters,
            lambda body: messages.trades(body, symbol=symbol, exchange_order_id=exchange_order_id),
        )
        page.may_go_on = may_go_on(self._host, "myTrades", page.length, limit)
        return page

    def fetch_account(self) -> AccountReport:
        """Fetch every balance that is not zero."""
        return self._read(
            "fetch_account", "private_get_account", {"omitZeroBalances": "true"}, messages.account
        )

    def fetch_last_trade(self, symbol: str) -> TradeReport:
        """Fetch price and time of the last trade on the market."""
        return self._ask(
            "fetch_last_trade",
            CallKind.READ,
            "public_get_aggtrades",
            {"symbol": symbol, "limit": "1"},
            lambda body: messages.last_trade(body, symbol=symbol),
        )

    def fetch_candles(
        self, symbol: str, *, interval: str, start_ms: int, end_ms: int
    ) -> list[Candle]:
        """Fetch the market's candles that open from `start_ms` to `end_ms`, at most 1000."""
        return self._ask(
            "fetch_candles",
            CallKind.READ,
            "public_get_klines",
            {
                "symbol": symbol,
                "interval": interval,
                "startTime": str(start_ms),
                "endTime": str(end_ms),
                "limit": "1000",
            },
            messages.candles,
        )

    def fetch_key_permissions(self) -> KeyPermissions:
        """Fetch the permissions of the account's API key, as its owner has set them."""
        return self._read(
            "fetch_key_permissions",
            "sapi_get_account_apirestrictions",
            {},
            messages.key_permissions,
        )

    def fetch_instruments(self, symbols: list[str] | None = None) -> list[InstrumentRules]:
        """Fetch trading rules, of these symbols or of all."""
        return list(self.fetch_exchange_info(symbols).instruments)

    def fetch_exchange_info(self, symbols: list[str] | None = None) -> ExchangeInfo:
        """Fetch trading rules and limits, of these symbols or of all (4 MB on the live
        exchange).
        """
        return self._ask(
            "fetch_instruments",
            CallKind.READ,
            "public_get_exchangeinfo",
            present(symbols=listed(symbols), showPermissionSets="false"),
            messages.exchange_info,
        )

    def fetch_last_prices(self, symbols: list[str]) -> dict[str, Decimal]:
        """Fetch each symbol's last traded price. An unknown symbol fails the whole call."""
        return self._ask(
            "fetch_last_prices",
            CallKind.READ,
            "public_get_ticker_price",
            present(symbols=listed(sorted(symbols))),
            messages.last_prices,
        )

    def fetch_bids_and_asks(self, symbols: list[str] | None = None) -> dict[str, BidAsk]:
        """Fetch the best bid and ask of these symbols, or of all, which costs the same weight.

        An unknown symbol fails the whole call.
        """
        return self._ask(
            "fetch_bids_and_asks",
            CallKind.READ,
            "public_get_ticker_bookticker",
            present(symbols=listed(symbols)),
            messages.bids_and_asks,
        )

    # how

    def _ask_time(self) -> int:
        return self._ask("fetch_time", CallKind.READ, "public_get_time", {}, messages.server_time)

    def _signed(self, parameters: dict[str, str]) -> dict[str, str]:
        return {
            **parameters,
            "recvWindow": str(settings.EXCHANGE_RECV_WINDOW_MS),
            "timestamp": str(self.now_ms()),
        }

    def _read(
        self,
        name: str,
        method: str,
        parameters: dict[str, str],
        read: Callable[[Any], T],
        *,
        client_order_id: str | None = None,
    ) -> T:
        def ask() -> T:
            return self._ask(
                name,
                CallKind.READ,
                method,
                self._signed(parameters),
                read,
                client_order_id=client_order_id,
            )

        try:
            return ask()
        except GatewayError as error:
            if error.code != TIMESTAMP_REFUSED:
                raise
        return ask()  # signed with a fresh time, because the clock was forgotten

    def _ask(
        self,
        name: str,
        kind: CallKind,
        method: str,
        parameters: dict[str, str],
        read: Callable[[Any], T],
        *,
        client_order_id: str | None = None,
        permit: Permit | None = None,
    ) -> T:
        """Send one request and read its answer. Log and count it either way."""
        started = clock.monotonic()
        permit = permit or self._acquire(name, kind, parameters, client_order_id)
        result = self._wire.send(method, parameters)
        error = error_of(result, kind)
        response = limits_response(result, error)
        if error is None:
            try:
                value = read(result.body)
            except Malformed as problem:
                error = OutcomeUnknown(
                    self._wire.cleaned(f"unexpected answer: {problem}"),
                    http_status=result.status,
                    was_answered=True,
                )
        counter = counters.counter("exchange_calls", **self._labels(name, error))
        limits.record_response(
            permit.request, permit.budget, response, is_probe=permit.is_probe, counter=counter
        )
        self._log(name, kind, error, clock.monotonic() - started, client_order_id)
        if error is None:
            return value
        if error.code == TIMESTAMP_REFUSED:
            self.forget_clock()
        # Raised outside any handler: neither cause nor context may lead to a signed URL.
        raise error

    def _acquire(
        self, name: str, kind: CallKind, parameters: Container[str], client_order_id: str | None
    ) -> Permit:
        """Acquire a permit from the shared limits. Log and count a refusal."""
        request = limits_request(
            name, kind, host=self._host, account=self.account_name, parameters=parameters
        )
        try:
            return limits.acquire_permit(request, sizes.budget_of(self._account))
        except NotSent as refused:
            counters.count("exchange_calls", **self._labels(name, refused))
            self._log(name, kind, refused, 0.0, client_order_id)
            raise

    def _labels(self, name: str, error: GatewayError | None) -> dict[str, str]:
        return {
            "account": self.account_name,
            "call": name,
            "outcome": type(error).__name__ if error else "ok",
        }

    def _log(
        self,
        name: str,
        kind: CallKind,
        error: GatewayError | None,
        seconds: float,
        client_order_id: str | None,
    ) -> None:
        write = log.debug if kind is CallKind.READ else log.info
        write(
            "exchange_call",
            **self._labels(name, error),
            code=error.code if error is not None else None,
            http_status=error.http_status if error is not None else 200,
            message=error.message if error is not None else "",
            duration_ms=round(seconds * 1000, 3),
            client_order_id=client_order_id,
        )
