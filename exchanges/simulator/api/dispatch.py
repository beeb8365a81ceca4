"""Answer requests from REST and WebSocket API alike, with faults on the way.

Receiving a request checks ban and weight, names, key, signature, timestamp and parameters.
Executing it checks the unfilled order count and the timestamp again, then calls the engine. A fault
strikes before, between or after the two.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from exchanges.simulator import errors
from exchanges.simulator.api.fault_effects import FaultyRequest
from exchanges.simulator.api.messages import Incoming, Reply, Wire, maintenance_reply, refusal
from exchanges.simulator.api.operations import Call, Operation, Security, Step
from exchanges.simulator.engine.types import EngineError
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange import rate_limits
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.simulator.exchange.fault_rules import Action, Subject
from exchanges.simulator.exchange.keys import ApiKey
from exchanges.simulator.exchange.rate_limits import order_rows

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Accepted:
    call: Call
    step: Step
    generation: int


class Dispatcher:
    """Answer requests for one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.internal_errors = 0

    async def answer(self, request: Incoming, wire: Wire) -> Reply | None:
        """Return the reply, or None if the client must not get an answer."""
        exchange = self.exchange
        operation = request.operation
        exchange.requests[
            f"{operation.method} {operation.path}" if request.api == "rest" else operation.ws_method
        ] += 1
        if exchange.maintenance:
            return maintenance_reply()
        action = (
            exchange.faults.take(_subject(request, exchange)) if exchange.faults.rules else None
        )
        if action is not None:
            return await FaultyRequest(self, request, wire, action).run()
        if exchange.settings.latency_ms:
            return await self.execute(request)
        return self.execute_now(request)

    # ------------------------------------------------------------------------------------ execution

    def execute_now(self, request: Incoming) -> Reply:
        """Receive and execute a request without a pause."""
        try:
            accepted = self.receive(request, None)
            return self.carry_out(request, accepted, None)
        except Exception as error:  # noqa: BLE001 - a bug of ours must look like the exchange's own
            return self._failed(request, error)

    async def execute(
        self,
        request: Incoming,
        action: Action | None = None,
        wait: Callable[[], Awaitable[None]] | None = None,
    ) -> Reply:
        """Receive a request, wait for the latency and `wait`, then execute it."""
        half = self.exchange.settings.latency_ms / 2000
        try:
            accepted = self.receive(request, action)
            if half:
                await asyncio.sleep(half)
            if wait is not None:
                await wait()
            reply = self.carry_out(request, accepted, action)
        except Exception as error:  # noqa: BLE001 - a bug of ours must look like the exchange's own
            reply = self._failed(request, error)
        if half:
            await asyncio.sleep(half)
        return reply

    def receive(self, request: Incoming, action: Action | None) -> _Accepted:
        exchange, operation, params = self.exchange, request.operation, request.params
        exchange.limiter.admit(
            request.ip,
            0 if operation.free else operation.weight_of(params),
            exchange.clock.now_us(),
        )
        params.check_names(operation.names, signed=operation.signed or request.api == "ws")
        call = Call(exchange=exchange, params=params, unit=request.unit, api=request.api)
        lag = exchange.lags.get(operation.ws_method, 0.0)
        if action is not None:
            call.invisible_for = action.invisible_for
            call.clock_skew_us = action.clock_skew_ms * 1000
            lag = max(lag, action.stale_for)
        if lag:
            call.at = exchange.clock.now_us() - int(lag * 1_000_000)
        if operation.signed:
            self._authenticate(request, call)
        return _Accepted(call, operation.prepare(call), exchange.generation)

    def _authenticate(self, request: Incoming, call: Call) -> None:
        params, operation = request.params, request.operation
        key = request.session_key if request.api_key is None else None
        if key is None:
            key = self.find_key(request.api_key)
            params.required_text("signature")
        call.timing = params.timing()
        if (
            not key.active
            or (operation.security is Security.TRADE and not key.can_trade)
            or not key.can_read
        ):
            raise errors.rejected_key()
        if (request.session_key is None or request.api_key is not None) and not key.verify(
            request.payload, params.values["signature"]
        ):
            raise errors.bad_signature()
        call.timing.check(call.now_us(), on_receipt=True)
        call.key = key

    def find_key(self, name: str | None) -> ApiKey:
        if not name or not name.isascii() or not name.isprintable() or " " in name:
            raise errors.bad_key_format()
        key = self.exchange.keys.get(name)
        if key is None:
            raise errors.rejected_key()
        return key

    def carry_out(self, request: Incoming, accepted: _Accepted, action: Action | None) -> Reply:
        exchange, operation, call = self.exchange, request.operation, accepted.call
        if accepted.generation != exchange.generation:
            raise errors.timeout()  # an exchange from before a reset received it
        if operation.engine:
            if operation.places:
                exceeded = exchange.engine.exceeded_order_limit(call.account)
                if exceeded is not None:
                    raise rate_limits.too_many_orders(exceeded, exchange.clock.now_us())
            if action is None or not action.skip_engine_check:
                self._check_before_engine(call, operation)
        try:
            body = accepted.step()
        finally:
            exchange.publish()
        reply = Reply(body=body)
        if operation.places:
            reply.orders = order_rows(exchange.engine.order_counts(call.account))
        return reply

    def _check_before_engine(self, call: Call, operation: Operation) -> None:
        timing = call.timing
        if timing is None:
            return
        try:
            timing.check(call.now_us(), on_receipt=False)
        except ApiError:
            if operation.places:
                self.exchange.engine.count_order(call.account)
            raise

    def _failed(self, request: Incoming, error: Exception) -> Reply:
        """Charge the weight of a failed call, even if a success costs none."""
        operation = request.operation
        if isinstance(error, EngineError):
            error = ApiError(error.code, error.message)
        if not isinstance(error, ApiError):
            self.internal_errors += 1
            log.error("simulator failed on %s %s", operation.method, operation.path, exc_info=error)
            message = "An unknown error occurred while processing the request."
            return refusal(ApiError(-1000, message, status=500))
        if operation.free and error.status not in (418, 429):
            exchange = self.exchange
            usage = exchange.limiter.usage(request.ip)
            usage.weight.add(exchange.clock.now_us(), operation.weight_of(request.params))
        return refusal(error)


def _subject(request: Incoming, exchange: Exchange) -> Subject:
    values, operation = request.params.values, request.operation
    key = exchange.keys.get(request.api_key or "") or request.session_key
    return Subject(
        api=request.api,
        method=operation.method,
        path=operation.path,
        ws_method=operation.ws_method,
        symbol=values.get("symbol", ""),
        client_order_id=values.get("newClientOrderId") or values.get("origClientOrderId") or "",
        account=key.account if key else "",
    )
