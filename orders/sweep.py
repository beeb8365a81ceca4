"""Give every due order its next step: send it, resolve it, cancel it, or fetch its missing trades.

The sweep starts from the database, so a lost message, a flushed broker or a killed worker costs
seconds and never an order. Each account is swept by itself. A sweep claims each order by moving its
`next_check_at`, so overlapping sweeps do the work once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.db.models.functions import Now

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.db.duty_runs import stamp_runs
from exchanges.db.leases import lease, renew
from exchanges.duties import SWEEP
from exchanges.errors import AccountError, GatewayError, NotSent, OrderNotFound, is_unanswered
from exchanges.mirror.balances import release_covered
from exchanges.models import ExchangeAccount, Lease
from exchanges.types import ReportSource
from orders.db_retry import is_database_away
from orders.due import due_accounts, due_orders
from orders.models import AttemptOutcome, BreakKind, EventType, ExchangeOrder, Order, OrderEvent
from orders.placing.backoff import back_off, one_more, pause_after
from orders.placing.cancel import cancel_attempt, drive_cancel
from orders.placing.early_cancels import meet_early_cancels
from orders.placing.holding import expire_held
from orders.placing.outcomes import stop_account
from orders.placing.record import cancel_unsent
from orders.placing.submit import ReadingMissing, place_order
from orders.reconciliation.evidence import apply_found, find_order
from orders.reconciliation.questions import ask_for, fetch_missing_fills
from orders.reconciliation.symbols import note_trouble
from orders.recording.apply import (
    apply_refusal,
    apply_report,
    release_reservation,
    states_of_all_attempts,
)
from orders.recording.breaks import open_break
from orders.recording.changes import Change, change_order, log_fields, reload_attempt
from orders.recording.fence import fence_ms
from orders.recording.plan import PENDING, attempt_state, order_state
from orders.recording.status import status_of, surplus
from orders.states import CLOSED, LOCAL, OPEN, UNRESOLVED, OrderStatus

log = structlog.get_logger(__name__)

TIME_BUDGET_SECONDS = 20.0
LONGEST_REST_SECONDS = 15.0
# Short, because a killed sweep must not cost an order its deadline. A step done twice does no harm.
_CLAIMED_FOR = timedelta(seconds=20)
_CHECKS_BEFORE_BREAK = 8
# One failed query stops only its order. So many in a row show that the whole account has trouble.
_UNANSWERED_IN_A_ROW = 3


def resolve_unconfirmed(
    elsewhere: Callable[[ExchangeAccount], object] | None = None,
    *,
    read_elsewhere: Callable[[Order], bool] | None = None,
) -> dict[str, int]:
    """Give every due order its next step. Return how many were looked at, changed and failed.

    Each account is swept by itself. With `elsewhere`, that enqueues all accounts but one, so that
    an account whose questions take long holds up no other. `read_elsewhere` is that of
    `sweep_account`.
    """
    accounts = due_accounts()
    if elsewhere is not None:
        for account in accounts[1:]:
            elsewhere(account)
        accounts = accounts[:1]
    counts = {"looked_at": 0, "changed": 0, "failed": 0}
    for account in accounts:
        swept = sweep_account(account, read_elsewhere=read_elsewhere)
        for name, count in swept.items():
            counts[name] += count
    _stamp_idle()
    release_covered()
    meet_early_cancels()
    if counts["looked_at"]:
        log.info("orders_swept", **counts)
    return counts


def _stamp_idle() -> None:
    """Stamp the sweep of every account without a due order: there was nothing to do."""
    busy = Order.objects.filter(next_check_at__lte=clock.now()).order_by()
    idle = ExchangeAccount.objects.exclude(pk__in=busy.values("account_id").distinct())
    stamp_runs(SWEEP, idle.values_list("pk", flat=True))


def sweep_account(
    account: ExchangeAccount,
    *,
    read_elsewhere: Callable[[Order], bool] | None = None,
    may_place: bool = True,
) -> dict[str, int]:
    """Give the account's due orders their next step, like `resolve_unconfirmed`.

    Some failed questions in a row end the run, and the account rests for longer each time.
    Meanwhile only unsent orders are looked at. Overlapping runs do the work once.

    `read_elsewhere` enqueues an unsent order whose gate lacks a reading, so that no order waits for
    the readings of others. It returns False if the broker didn't take the message. Without
    `may_place` unsent orders are left to others.
    """
    counts = {"looked_at": 0, "changed": 0, "failed": 0}
    with lease(f"sweep:{account.name}") as is_ours:
        if is_ours:
            place = partial(_place, read_elsewhere) if may_place else None
            _sweep(account, counts, place)
            if may_place:
                stamp_runs(SWEEP, [account.pk])
    return counts


_Place = Callable[[Order], Order] | None  # None: unsent orders are left alone


def _place(read_elsewhere: Callable[[Order], bool] | None, order: Order) -> Order:
    """Send an unsent order whose time has come."""
    if read_elsewhere is not None:
        try:
            return place_order(order.pk, is_due=True, may_fetch=False)
        except ReadingMissing as missing:
            if missing.order is not None and read_elsewhere(missing.order):
                return missing.order
    return place_order(order.pk, is_due=True)


def _sweep(account: ExchangeAccount, counts: dict[str, int], place: _Place) -> None:
    unanswered, was_answered = 0, False
    for order in _claimed_orders(account, may_place=place is not None):
        counts["looked_at"] += 1
        before, asks = order.version, order.status not in LOCAL
        try:
            order = _next_step(order, place)
        except GatewayError as error:
            counts["failed"] += 1
            if _ends_run(order, error):
                return
            unanswered += is_unanswered(error)
            if unanswered >= _UNANSWERED_IN_A_ROW:
                break
        except Exception as error:
            if is_database_away(error):
                raise  # It is about all orders, not about this one.
            # A failure of one order must not delay the others.
            counts["failed"] += 1
            log.exception("resolve_failed", **log_fields(order))
            _check_again(order)
        else:
            was_answered = was_answered or asks
            unanswered = 0 if asks else unanswered
        counts["changed"] += order.version != before
    if unanswered and (not was_answered or unanswered >= _UNANSWERED_IN_A_ROW):
        _rest_longer(account)
    elif was_answered:
        Lease.objects.filter(pk=_rest_name(account)).delete()


def _claimed_orders(account: ExchangeAccount, *, may_place: bool) -> Iterator[Order]:
    """Yield the due orders that are ours to look at, while the run has time."""
    stop_at = clock.monotonic() + TIME_BUDGET_SECONDS
    for order in due_orders(account, only_unsent=_rests(account), may_place=may_place):
        if clock.monotonic() > stop_at:
            return
        renew()
        if _claim(order):
            yield order


def _ends_run(order: Order, error: GatewayError) -> bool:
    """Record a failed step. Return True if the account's other orders would fail, too."""
    _check_again(order, error)
    note_trouble(order.account, order.symbol, error)
    if isinstance(error, AccountError):
        stop_account(order.account, error)
        _rest_longer(order.account)
    return isinstance(error, NotSent | AccountError)


def _rests(account: ExchangeAccount) -> bool:
    return Lease.objects.filter(pk=_rest_name(account), expires_at__gt=Now()).exists()


def _rest_longer(account: ExchangeAccount) -> None:
    """Let the account rest for longer after each failure in a row. The first one costs nothing."""
    row = Lease.objects.filter(pk=_rest_name(account)).first()
    before = row.holder.partition(" ")[0] if row is not None else ""
    # A person who took the lease away has left another text.
    failures = int(before) + 1 if before.isdecimal() else 1
    rest = timedelta(seconds=min(2.0 ** (failures - 2), LONGEST_REST_SECONDS))
    Lease.objects.update_or_create(
        pk=_rest_name(account),
        defaults={
            "holder": f"{min(failures, 20)} failed questions",
            "expires_at": Now() + (rest if failures > 1 else timedelta(0)),
        },
    )


def _rest_name(account: ExchangeAccount) -> str:
    return f"sweep-rests:{account.name}"


def _claim(order: Order) -> bool:
    """Postpone the order's next check if it is still as we read it, so only one sweep wins."""
    until = clock.now() + _CLAIMED_FOR
    unchanged = Order.objects.filter(
        pk=order.pk, next_check_at=order.next_check_at, version=order.version
    )
    if not unchanged.update(next_check_at=until):
        return False
    order.next_check_at = until
    return True


def _next_step(order: Order, place: _Place) -> Order:
    if order.status in LOCAL and order.cancel_requested_at is not None:
        return cancel_unsent(order)
    if order.status == OrderStatus.HELD:
        return expire_held(order)
    if order.status == OrderStatus.CREATED:
        return order if place is None else place(order)
    gateway = get_gateway(order.account)
    if pending := _attempts(order, *PENDING):
        order = resolve_order(gateway, pending)
        if order.status == OrderStatus.CREATED:
            return order if place is None else place(order)
        if order.status in UNRESOLVED or order.next_check_at is None:
            return order
    elif order.status == OrderStatus.PENDING_NEW:
        # A claim commits its attempt, so without one nothing was sent and the order may be sent.
        return change_order(order, _back_to_created)
    order = _cancel_surplus(gateway, order)
    if order.status in OPEN and order.cancel_requested_at is not None:
        order = drive_cancel(gateway, order)
    return _complete_fills(gateway, order)


def _attempts(order: Order, *outcomes: str) -> list[ExchangeOrder]:
    """Return the order's attempts with these outcomes, oldest first."""
    rows = list(ExchangeOrder.objects.filter(order=order, outcome__in=outcomes).order_by("attempt"))
    for row in rows:
        row.order = order
    return rows


def _check_again(
    order: Order, error: GatewayError | None = None, *, at: datetime | None = None
) -> None:
    pause = back_off(order) if error is None else pause_after(order, error)
    Order.objects.filter(pk=order.pk, version=order.version).update(
        next_check_at=at or clock.now() + timedelta(seconds=pause),
        check_count=one_more(order),
    )


# -- a send without an answer --------------------------------------------------------------------


def resolve_order(gateway: Gateway, pending: Sequence[ExchangeOrder]) -> Order:
    """Resolve the unanswered attempts of an order: record each if found, end it if absent, or wait.

    An attempt is absent only if the exchange's own clock, read in this pass, is past the fence: the
    last moment at which the request could still be executed and become visible. After that, none
    of the query by client order id, the open orders, the history and the trades may show it.
    Raises `GatewayError` if a question failed.
    """
    order = pending[0].order
    unknown = [attempt for attempt in pending if not attempt_state(attempt).is_refused]
    for attempt in pending:
        if attempt not in unknown:
            _make_refusal_final(attempt)
    if not unknown:
        return order
    server_ms = gateway.server_time_ms()
    found = [_resolve_attempt(gateway, attempt, server_ms) for attempt in unknown]
    waits = [wait for wait in found if wait is not None]
    if waits:
        _check_again(order, at=clock.now() + timedelta(seconds=min(waits)))
    return order


def _make_refusal_final(attempt: ExchangeOrder) -> None:
    """Record the refusal that the stream reported, because the sender never read its answer."""
    events = OrderEvent.objects.filter(order=attempt.order, source=ReportSource.STREAM)
    noted = events.filter(
        details__client_order_id=attempt.client_order_id, details__message__X="REJECTED"
    ).last()
    message = noted.details["message"] if noted is not None else {}
    apply_refusal(attempt, code="", message=str(message.get("r") or ""))


def _resolve_attempt(gateway: Gateway, attempt: ExchangeOrder, server_ms: int) -> float | None:
    """Record or end one attempt. Return the seconds to wait if neither is possible yet."""
    fence = fence_ms(attempt)
    try:
        report = ask_for(gateway, attempt)
    except OrderNotFound:
        if server_ms <= fence:
            return min(back_off(attempt.order), (fence - server_ms) / 1000 + 0.05)
        return _look_everywhere(gateway, attempt, server_ms)
    apply_report(attempt, report, actor="sweep")
    return None


def _look_everywhere(gateway: Gateway, attempt: ExchangeOrder, server_ms: int) -> float | None:
    """Record the order if any source shows it, else end the attempt as absent."""
    try:
        found = find_order(gateway, attempt)
    except OrderNotFound:
        return back_off(attempt.order)  # a trade shows that the exchange hides an order still
    if found is None:
        _close_absent(attempt, server_ms)
    else:
        apply_found(attempt, found, actor="sweep")
    return None


def _close_absent(attempt: ExchangeOrder, server_ms: int) -> Order:
    """End an attempt that is proven absent. The order is CREATED again while it has time."""

    def decide(order: Order) -> Change | None:
        if attempt.outcome not in PENDING:
            return None  # its sender, or another sweep, has found out meanwhile
        return Change(
            fields=_after_absence(attempt, clock.now()),
            event_type=EventType.ABSENT,
            actor="sweep",
            details={
                "client_order_id": attempt.client_order_id,
                "exchange_time_ms": server_ms,
                "fence_ms": fence_ms(attempt),
            },
            also=partial(_end_absent, attempt),
            log_event="order_proven_absent",
            log_level="warning",
            log_details={"client_order_id": attempt.client_order_id},
        )

    return change_order(attempt.order, decide, reload=partial(reload_attempt, attempt))


def _end_absent(attempt: ExchangeOrder) -> None:
    ExchangeOrder.objects.filter(pk=attempt.pk).update(outcome=AttemptOutcome.ABSENT)
    release_reservation(attempt)


def _after_absence(attempt: ExchangeOrder, now: datetime) -> dict[str, Any]:
    order = attempt.order
    verdict, code, reason = OrderStatus(order.verdict), "", ""
    if order.cancel_requested_at is not None:
        verdict, code = OrderStatus.CANCELED, "ABSENT"
        reason = "not found at the exchange, and a cancel was requested"
    elif order.place_by is None or now >= order.place_by:
        verdict, code = OrderStatus.NOT_PLACED, "NO_ANSWER"
        reason = "no answer to the request, and not found at the exchange"
    absent = replace(attempt_state(attempt), is_pending=False)
    states = states_of_all_attempts(attempt, absent)
    if status_of(states, verdict) != verdict:
        return order_state(order, states, now=now)  # another attempt says more
    changes = order_state(order, states, now=now, verdict=verdict)
    if verdict == OrderStatus.CREATED:
        return changes | {"next_check_at": now}
    return changes | {"reason_code": code, "reason": reason}


def _back_to_created(order: Order) -> Change | None:
    if order.status != OrderStatus.PENDING_NEW:
        return None
    return Change(
        fields={"status": str(OrderStatus.CREATED), "next_check_at": clock.now()},
        event_type=EventType.WAITING,
        actor="sweep",
    )


# -- the rest of an open or closed order ----------------------------------------------------------


def _cancel_surplus(gateway: Gateway, order: Order) -> Order:
    """Cancel each live attempt but the oldest, and that one too once the order is filled."""
    if order.attempt < 2:
        return order
    rows = _attempts(order, AttemptOutcome.ACKNOWLEDGED)
    alive = [row for row in rows if attempt_state(row).is_alive]
    kept = len(alive) - len(surplus([attempt_state(row) for row in rows]))
    for attempt in alive[kept:]:
        try:
            report = cancel_attempt(gateway, attempt)
        except OrderNotFound:
            report = ask_for(gateway, attempt)
        order = apply_report(attempt, report, actor="sweep")
    return order


def _complete_fills(gateway: Gateway, order: Order) -> Order:
    for attempt in ExchangeOrder.objects.filter(order=order).exclude(exchange_order_id=""):
        state = attempt_state(attempt)
        if not state.has_fill_gap or state.is_lost:
            continue
        attempt.order = order
        order = fetch_missing_fills(gateway, attempt)
        if attempt_state(attempt).has_fill_gap:
            if order.check_count >= _CHECKS_BEFORE_BREAK:
                open_break(order, BreakKind.FILL_GAP, subject=attempt.client_order_id, details={})
            _check_again(order)
            return order
    return _finish(order)


def _finish(order: Order) -> Order:
    if order.open_attempts:
        _check_again(order)
    elif order.status in CLOSED or (order.status in OPEN and order.cancel_requested_at is None):
        Order.objects.filter(pk=order.pk, version=order.version).update(
            next_check_at=None, check_count=0
        )
    return order
