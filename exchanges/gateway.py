"""The way out to an exchange: request -> ccxt -> report.

ccxt signs, addresses and carries; everything else is done here. Its raw methods are used (`private_post_order` is
`POST /api/v3/order`) with strings in and the exchange's own JSON out, because the unified ones alter an order
silently: they round a price half up, even above what was asked, truncate a quantity, turn MARKET with a price into a
quote amount, and give floats back. Its exceptions are not used either: they cannot tell a refusal from an unknown
outcome, depend on the host's name, and hold signed URLs. `wire.py` takes the HTTP answer where it arrives, and
`errors.TABLE` judges it.

Nothing is retried here but a read that the exchange refused for its timestamp. All calls are blocking and, unlike
ccxt's asynchronous client, never send a DELETE twice.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import structlog
from django.conf import settings

from exchanges import binance_reports as reports
from exchanges import budgets, clock, limits, metrics
from exchanges.binance_reports import Malformed
from exchanges.credentials import Account, Credentials, environment_stamp, read_credentials
from exchanges.errors import Call, GatewayError, NotSent, OutcomeUnknown, Transport, error_for
from exchanges.server_clock import ServerClock
from exchanges.types import (
    AccountReport,
    ExchangeInfo,
    FillReport,
    InstrumentRules,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    ReportSource,
    TradeReport,
)
from exchanges.wire import Outcome, Sender, Wire

TIMESTAMP_REFUSED = -1021

T = TypeVar("T")
log = structlog.get_logger(__name__)


# -- the public face -----------------------------------------------------------------------------------------------


class Gateway:
    """One account's exchange, for one thread: it keeps a connection alive. Get it from `get_gateway`.

    Every method raises a `GatewayError` (the tree in `errors.py`); an answer that is not what was asked for is
    `OutcomeUnknown`.
    """

    def __init__(self, account: Account, credentials: Credentials) -> None:
        self.account_name = account.name
        self._account = account
        self._host = credentials.hosts.rest_url
        self._wire: Sender = Wire(
            _ccxt_client(credentials),
            secrets=(credentials.api_key, credentials.api_secret),
            read_timeout_seconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS / 1000,
        )
        self._clock = _server_clock(credentials.hosts.rest_url)

    def __repr__(self) -> str:
        return f"<Gateway {self.account_name}>"

    def close(self) -> None:
        self._wire.close()

    # time

    def now_ms(self) -> int:
        """The exchange's clock as we estimate it, in milliseconds; asks the exchange when the estimate is too old.

        `NotSent` when there is no estimate and none can be made: whatever the time was wanted for was not sent either.
        """
        return self._clock.now_ms(self._ask_time)

    def server_time_ms(self) -> int:
        """The exchange's clock, asked now, in milliseconds."""
        return self._clock.measure(self._ask_time)

    def forget_clock(self) -> None:
        """Measure the exchange's clock anew before the next use."""
        self._clock.forget()

    # orders

    def place(self, request: OrderRequest) -> OrderReport:
        """Place an order, signed with the request's own timestamp and window. `DuplicateOrder`: it is live already."""
        return self._ask(
            "place",
            Call.PLACE,
            "private_post_order",
            reports.place_parameters(request),
            lambda body: reports.placed_order(body, request),
            client_order_id=request.client_order_id,
        )

    def cancel(
        self, *, symbol: str, client_order_id: str | None = None, exchange_order_id: str | None = None
    ) -> OrderReport:
        """Cancel an open order. `OrderNotFound` says only that it is not open: ask for its state."""
        return self._ask(
            "cancel",
            Call.CANCEL,
            "private_delete_order",
            self._signed(_order_parameters(symbol, client_order_id, exchange_order_id)),
            lambda body: _expected(reports.cancelled_order(body), symbol, client_order_id, exchange_order_id),
            client_order_id=client_order_id,
        )

    def fetch_order(
        self, *, symbol: str, client_order_id: str | None = None, exchange_order_id: str | None = None
    ) -> OrderReport:
        """One order as the exchange's query side shows it, which may lag behind its engine."""
        return self._read(
            "fetch_order",
            "private_get_order",
            _order_parameters(symbol, client_order_id, exchange_order_id),
            lambda body: _expected(reports.queried_order(body), symbol, client_order_id, exchange_order_id),
            client_order_id=client_order_id,
        )

    def fetch_open_orders(self, symbol: str | None = None) -> list[OrderReport]:
        """Every open order, of one symbol or of the account (weight 6 or 80)."""
        return self._read(
            "fetch_open_orders",
            "private_get_openorders",
            _present(symbol=symbol),
            lambda body: _all_expected(reports.queried_orders(body, ReportSource.OPEN_ORDERS), symbol),
        )

    def fetch_all_orders(
        self,
        *,
        symbol: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        from_order_id: str | None = None,
        limit: int = 1000,
    ) -> list[OrderReport]:
        """Orders of any state, oldest first: from an id on, or of at most 24 hours by time."""
        parameters = _present(symbol=symbol, orderId=from_order_id, startTime=start_ms, endTime=end_ms, limit=limit)
        return self._read(
            "fetch_all_orders",
            "private_get_allorders",
            parameters,
            lambda body: _all_expected(reports.queried_orders(body, ReportSource.ALL_ORDERS), symbol),
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
    ) -> list[FillReport]:
        """Our trades of a symbol, oldest first. An id and a time together are refused, except order id and trade id."""
        parameters = _present(
            symbol=symbol,
            orderId=exchange_order_id,
            fromId=from_trade_id,
            startTime=start_ms,
            endTime=end_ms,
            limit=limit,
        )
        return self._read(
            "fetch_trades",
            "private_get_mytrades",
            parameters,
            lambda body: reports.trades(body, symbol=symbol, exchange_order_id=exchange_order_id),
        )

    def fetch_account(self) -> AccountReport:
        """Every balance that is not zero."""
        return self._read("fetch_account", "private_get_account", {"omitZeroBalances": "true"}, reports.account)

    def fetch_last_trade(self, symbol: str) -> TradeReport:
        """Price and time of the last trade of anybody."""
        return self._ask(
            "fetch_last_trade",
            Call.READ,
            "public_get_aggtrades",
            {"symbol": symbol, "limit": "1"},
            lambda body: reports.last_trade(body, symbol=symbol),
        )

    def fetch_key_permissions(self) -> KeyPermissions:
        """What the account's API key may do, as its owner has set it at the exchange."""
        return self._read("fetch_key_permissions", "sapi_get_account_apirestrictions", {}, reports.key_permissions)

    def fetch_instruments(self, symbols: list[str] | None = None) -> list[InstrumentRules]:
        """Trading rules, of these symbols or of all."""
        return list(self.fetch_exchange_info(symbols).instruments)

    def fetch_exchange_info(self, symbols: list[str] | None = None) -> ExchangeInfo:
        """Trading rules and limits, of these symbols or of all (4 MB on the live exchange)."""
        wanted = {} if symbols is None else {"symbols": json.dumps(symbols, separators=(",", ":"), ensure_ascii=False)}
        return self._ask(
            "fetch_instruments",
            Call.READ,
            "public_get_exchangeinfo",
            {**wanted, "showPermissionSets": "false"},
            reports.exchange_info,
        )

    def fetch_last_prices(self, symbols: list[str]) -> dict[str, Decimal]:
        """Price of the last trade of each symbol; one that the exchange does not know fails the whole question."""
        return self._ask(
            "fetch_last_prices",
            Call.READ,
            "public_get_ticker_price",
            {"symbols": json.dumps(sorted(symbols), separators=(",", ":"), ensure_ascii=False)},
            reports.last_prices,
        )

    # how

    def _ask_time(self) -> int:
        return self._ask("fetch_time", Call.READ, "public_get_time", {}, reports.server_time)

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
            return self._ask(name, Call.READ, method, self._signed(parameters), read, client_order_id=client_order_id)

        try:
            return ask()
        except GatewayError as error:
            if error.code != TIMESTAMP_REFUSED:
                raise
        return ask()  # the clock was forgotten: this one is signed with a fresh time

    def _ask(
        self,
        name: str,
        call: Call,
        method: str,
        parameters: dict[str, str],
        read: Callable[[Any], T],
        *,
        client_order_id: str | None = None,
    ) -> T:
        """Send one request and read its answer; log and count it either way."""
        started = clock.monotonic()
        passage = self._passage(name, call, parameters)
        budget = budgets.budget_of(self._account)
        try:
            is_probe = limits.admit(passage, budget)
        except NotSent as refused:
            metrics.count("exchange_calls", **self._labels(name, refused))
            self._log(name, call, refused, 0.0, client_order_id)
            raise
        outcome = self._wire.send(method, parameters)
        error = _error_of(outcome, call)
        told = _answer(outcome, error)
        if error is None:
            try:
                result = read(outcome.body)
            except Malformed as problem:
                error = OutcomeUnknown(
                    self._wire.cleaned(f"not the answer that was asked for: {problem}"), http_status=outcome.status
                )
        counter = metrics.counter("exchange_calls", **self._labels(name, error))
        limits.note(passage, budget, told, is_probe=is_probe, counter=counter)
        self._log(name, call, error, clock.monotonic() - started, client_order_id)
        if error is None:
            return result
        if error.code == TIMESTAMP_REFUSED:
            self.forget_clock()
        # Raised outside any handler: neither cause nor context may lead to a signed URL.
        raise error

    def _passage(self, name: str, call: Call, parameters: dict[str, str]) -> limits.Passage:
        lane, weight, narrow_weight, narrowed_by = _COSTS[name]
        return limits.Passage(
            host=self._host,
            account=self.account_name,
            kind=limits.Kind(call.value),
            lane=lane,
            weight=narrow_weight if narrowed_by in parameters else weight,
        )

    def _labels(self, name: str, error: GatewayError | None) -> dict[str, str]:
        return {"account": self.account_name, "call": name, "outcome": type(error).__name__ if error else "ok"}

    def _log(
        self, name: str, call: Call, error: GatewayError | None, seconds: float, client_order_id: str | None
    ) -> None:
        write = log.debug if call is Call.READ else log.info
        write(
            "exchange_call",
            **self._labels(name, error),
            code=error.code if error is not None else None,
            http_status=error.http_status if error is not None else 200,
            message=error.message if error is not None else "",
            duration_ms=round(seconds * 1000, 3),
            client_order_id=client_order_id,
        )


# Lane, documented weight, and the weight where a parameter narrows the question (a successful place or cancel is free).
_COSTS: dict[str, tuple[limits.Lane, int, int, str]] = {
    "place": (limits.Lane.NEW, 1, 1, ""),
    "cancel": (limits.Lane.CANCEL, 1, 1, ""),
    "fetch_order": (limits.Lane.STATUS, 4, 4, ""),
    "fetch_open_orders": (limits.Lane.STATUS, 80, 6, "symbol"),
    "fetch_all_orders": (limits.Lane.HISTORY, 20, 20, ""),
    "fetch_trades": (limits.Lane.HISTORY, 20, 5, "orderId"),
    "fetch_account": (limits.Lane.STATUS, 20, 20, ""),
    "fetch_instruments": (limits.Lane.HISTORY, 20, 20, ""),
    "fetch_key_permissions": (limits.Lane.STATUS, 1, 1, ""),
    "fetch_last_prices": (limits.Lane.HISTORY, 4, 4, ""),
    "fetch_last_trade": (limits.Lane.NEW, 4, 4, ""),
    # A cancel may need the time first: it must get through as far as the cancel itself would.
    "fetch_time": (limits.Lane.CANCEL, 1, 1, ""),
}


def _answer(outcome: Outcome, error: GatewayError | None) -> limits.Answer:
    """What the limits learn of a request. Only infrastructure trouble counts as a failure, never a refusal."""
    answered = outcome.transport is Transport.ANSWERED
    trouble = not answered or (outcome.status or 0) >= 500 or isinstance(error, OutcomeUnknown)
    return limits.Answer(
        failed=trouble,
        succeeded=error is None,
        status=outcome.status,
        code=outcome.code,
        retry_after=outcome.retry_after,
        used_weight=outcome.counts.get("x-mbx-used-weight-1m", 0),
        order_counts={
            seconds: outcome.counts[header]
            for header, seconds in (("x-mbx-order-count-10s", 10), ("x-mbx-order-count-1d", 86_400))
            if header in outcome.counts
        },
    )


def get_gateway(account: Account) -> Gateway:
    """The calling thread's gateway to this account, made anew when its keys or hosts in the environment changed."""
    if _factory is not None:
        return _factory(account)
    stamp = environment_stamp(account)
    gateways: dict[str, tuple[object, Gateway]] = _of_thread.__dict__.setdefault("gateways", {})
    known = gateways.get(account.name)
    if known is not None and known[0] == stamp:
        return known[1]
    gateway = Gateway(account, read_credentials(account))
    gateways[account.name] = (stamp, gateway)
    if known is not None:
        known[1].close()
    return gateway


@contextmanager
def install(factory: Callable[[Account], Gateway]) -> Iterator[None]:
    """For tests and simulations: within the block `get_gateway` asks this factory, in every thread."""
    global _factory
    previous, _factory = _factory, factory
    try:
        yield
    finally:
        _factory = previous


_factory: Callable[[Account], Gateway] | None = None
_of_thread = threading.local()
_server_clocks: dict[str, ServerClock] = {}


def _server_clock(rest_url: str) -> ServerClock:
    return _server_clocks.setdefault(rest_url, ServerClock())


def _forget_after_fork() -> None:
    # A child must neither share its parent's sockets nor inherit a lock that a thread of the parent held.
    _of_thread.__dict__.clear()
    _server_clocks.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


def load_client_library() -> None:
    """Import now what the first call to an exchange would import: 0.3 s, and 50 MB."""
    import ccxt  # noqa: F401


def _ccxt_client(credentials: Credentials) -> Any:
    """ccxt's client, reduced to what signs and addresses a request: no markets, no limiter, no other host."""
    import ccxt

    client = ccxt.binance(
        {
            "apiKey": credentials.api_key,
            "secret": credentials.api_secret,
            # ccxt's limiter makes bursts serial and is blind to other processes.
            "enableRateLimit": False,
            "enableLastHttpResponse": False,
            "enableLastJsonResponse": False,
            "enableLastResponseHeaders": False,
            "options": {"defaultType": "spot", "fetchCurrencies": False, "fetchMargins": False},
        }
    )
    base = f"{credentials.hosts.rest_url}/api/v3"
    sapi = f"{credentials.hosts.rest_url}/sapi/v1"
    client.urls["api"] = {"public": base, "private": base, "sapi": sapi}  # replaced, not merged
    return client


# -- parameters and answers ----------------------------------------------------------------------------------------


def _present(**parameters: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _order_parameters(symbol: str, client_order_id: str | None, exchange_order_id: str | None) -> dict[str, str]:
    if client_order_id is None and exchange_order_id is None:
        raise TypeError("client_order_id or exchange_order_id is needed")
    return _present(symbol=symbol, orderId=exchange_order_id, origClientOrderId=client_order_id)


def _expected(
    report: OrderReport, symbol: str, client_order_id: str | None, exchange_order_id: str | None
) -> OrderReport:
    reports.expect_order(report, symbol=symbol, client_order_id=client_order_id, exchange_order_id=exchange_order_id)
    return report


def _all_expected(found: list[OrderReport], symbol: str | None) -> list[OrderReport]:
    for report in found:
        reports.expect_order(report, symbol=symbol)
    return found


def _error_of(outcome: Outcome, call: Call) -> GatewayError | None:
    """What went wrong, or None for HTTP 200 with a JSON body that is no error object."""
    if outcome.status == 200 and outcome.is_json and outcome.code is None:
        return None
    return error_for(
        call=call,
        message=outcome.message,
        transport=outcome.transport,
        http_status=outcome.status,
        code=outcome.code,
        retry_after=outcome.retry_after,
    )
