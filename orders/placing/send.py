"""Send a claimed request once and record the answer."""

from __future__ import annotations

import structlog

from exchanges.binance.gateway import Gateway
from exchanges.errors import (
    AccountError,
    DuplicateOrder,
    GatewayError,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
)
from exchanges.limits.budget import Permit
from exchanges.models import ExchangeAccount
from exchanges.types import OrderReport
from orders import book_identity
from orders.models import EventType, ExchangeOrder, Order
from orders.placing.cancel import drive_cancel
from orders.placing.claim import Claim
from orders.placing.judge_again import may_be_old_rules
from orders.placing.outcomes import (
    clock_refused_at,
    judge_clock,
    record_not_sent,
    record_refused,
    record_unknown,
    stop_account,
)
from orders.reconciliation.adopt import take_in
from orders.reconciliation.counts import RunCounts
from orders.reconciliation.symbols import note_trouble
from orders.recording.apply import apply_refusal, apply_report
from orders.recording.attempts import is_about, is_as_sent
from orders.recording.changes import log_fields
from orders.stages import Stage
from orders.states import OPEN

log = structlog.get_logger(__name__)


def send(gateway: Gateway, account: ExchangeAccount, claim: Claim, permit: Permit) -> Order:
    """Send the claimed request once and record the answer, or that there was none."""
    order, attempt = claim.order, claim.attempt
    log.debug("order_claimed", **log_fields(order), client_order_id=attempt.client_order_id)
    try:
        report = _place(gateway, claim, permit)
    except OrderRejected as error:
        clock_refused_at.pop(account.name, None)
        claim.timer.reach(Stage.ANSWERED)
        code, message = str(error.code or ""), error.message
        note_trouble(account, order.symbol, error)
        if may_be_old_rules(code, message):
            return record_refused(attempt, error)
        return apply_refusal(attempt, code=code, message=message, timer=claim.timer)
    except DuplicateOrder as error:
        return _adopt_duplicate(gateway, attempt, error)
    except AccountError as error:
        stop_account(account, error)
        return record_not_sent(attempt, error)
    except NotSent as error:
        judge_clock(account, error, claim.signed_at)
        return record_not_sent(attempt, error)
    except OutcomeUnknown as error:
        return record_unknown(attempt, error)
    except Exception as error:
        # A bug of ours after the bytes may have left: the outcome is as unknown as after a
        # time-out, so the request is never sent again blindly.
        log.exception("place_failed", **log_fields(order))
        return record_unknown(attempt, OutcomeUnknown(f"internal error: {type(error).__name__}"))
    clock_refused_at.pop(account.name, None)
    recorded = apply_report(attempt, report, timer=claim.timer)
    if recorded.cancel_requested_at is not None and recorded.status in OPEN:
        return drive_cancel(gateway, recorded)
    return recorded


def _place(gateway: Gateway, claim: Claim, permit: Permit) -> OrderReport:
    """Note the claim, then send it. Without the note nothing is sent."""
    attempt = claim.attempt
    if permit.memory is not None:
        try:
            book_identity.note_claim(permit.memory, attempt.account_id, attempt.client_order_id)
        except NotSent:
            gateway.give_back(permit)
            raise
    claim.timer.reach(Stage.SENT)
    report = gateway.place(claim.request(), permit)
    claim.timer.reach(Stage.ANSWERED)
    return report


def _adopt_duplicate(gateway: Gateway, attempt: ExchangeOrder, error: DuplicateOrder) -> Order:
    """Fetch and record the open order that the exchange has under this id.

    It is this intent's, unless someone else has used our id for another order. Then our request
    was refused, which the sweep proves.
    """
    record_unknown(attempt, error, event_type=EventType.DUPLICATE)
    try:
        report = gateway.fetch_order(symbol=attempt.symbol, client_order_id=attempt.client_order_id)
    except GatewayError:
        return attempt.order  # the sweep asks again
    if is_about(attempt, report) or is_as_sent(attempt, report):
        return apply_report(attempt, report)
    take_in(attempt.order.account, report, RunCounts())
    return attempt.order
