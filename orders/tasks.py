"""Run services as Celery tasks: an intent or an id in, one call.

Every duty is in the database, so a lost message costs seconds and never an order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from celery import current_app, current_task, shared_task
from django.conf import settings

from exchanges import clock
from exchanges.duties import HandOver, enqueue_each
from exchanges.errors import GatewayError
from exchanges.limits import counters
from exchanges.mirror.environments import one_of_each_environment
from exchanges.models import ExchangeAccount
from orders import asking, auto_halt, mids, reading_slots, services, sweep
from orders.accounts import account_named
from orders.intents import (
    FIELDS,
    Intent,
    IntentConflict,
    InvalidIntent,
    bind_arguments,
    invalid,
    parse_account,
    parse_intent,
    parse_known_intent_id,
    unknown_argument,
)
from orders.models import Order
from orders.notifications import outbox, payloads
from orders.placing import cancel_many
from orders.placing.cancel import DRIVE_CANCELS
from orders.placing.outcomes import stopping_refused
from orders.placing.submit import ReadingMissing
from orders.positions import samples, store
from orders.reconciliation import account as compare
from orders.reconciliation import histories, history, open_orders
from orders.states import OrderStatus

log = structlog.get_logger(__name__)

TRADING_QUEUE = "trading"
# The queue whose workers fetch the readings that an order lacks.
READING_QUEUE = "duties"

# How often beat enqueues them.
RECONCILE_SECONDS = 900.0
REFRESH_SECONDS = 60.0
_LONGEST_DRIVE_SECONDS = 60.0

# `throws`: these are the caller's mistakes, so they are reported without a traceback.
# `typing=False`: an unknown argument is reported by its name instead of a TypeError.
_FROM_CALLERS: dict[str, Any] = {"throws": (InvalidIntent, IntentConflict), "typing": False}
# An exchange that doesn't answer is reported without a traceback, too: the beat repeats these.
_READS: dict[str, Any] = {"throws": (InvalidIntent, GatewayError)}


@shared_task(name="orders.submit_order", **_FROM_CALLERS)
def submit_order(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Place an order, once per intent. Its arguments are `orders.intents.FIELDS`."""
    try:
        intent = parse_intent(bind_arguments(args, kwargs), now=clock.now())
        return _order_result(partial(_submit, intent))
    except InvalidIntent as error:
        _log_invalid("submit_order", error, kwargs)
        raise


def _submit(intent: Intent, *, may_fetch: bool) -> Order:
    order = services.submit_order(intent, may_fetch=may_fetch)
    if _is_handed_over() and order.status == OrderStatus.CREATED:
        return services.place_order(order.pk, is_due=True)
    return order


def _order_result(place: Callable[..., Order]) -> dict[str, Any]:
    """Place an order and return the task's result. A trading thread hands readings over."""

    def read_here() -> dict[str, Any]:
        return payloads.order_result(place(may_fetch=True))

    if _is_handed_over():
        with reading_slots.slots.one() as is_free:
            if not is_free:
                raise HandOver(READING_QUEUE, read_here)
            return read_here()
    try:
        return payloads.order_result(place(may_fetch=_may_fetch()))
    except ReadingMissing:
        raise HandOver(READING_QUEUE, read_here) from None


def _queue() -> str | None:
    """Return the queue of the message at work. None if no worker took it from a queue."""
    request = current_task.request if current_task else None
    if request is None or request.called_directly or request.is_eager:
        return None
    return str((request.delivery_info or {}).get("routing_key", ""))


def _may_fetch() -> bool:
    """Return whether this thread may wait for the exchange before it sends an order."""
    return _queue() != TRADING_QUEUE


def _is_handed_over() -> bool:
    return _queue() == READING_QUEUE


def _reader() -> Callable[[Order], bool] | None:
    """Return how a sweep has readings fetched: by itself (None) unless it runs in a worker."""
    return None if _queue() is None else _read_elsewhere


def _read_elsewhere(order: Order) -> bool:
    """Let a worker fetch the missing reading and send the order. Return False without a broker."""
    try:
        place_order.apply_async((str(order.pk),), queue=READING_QUEUE, ignore_result=True)
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("enqueue_failed", order_id=str(order.pk), error=type(error).__name__)
        return False
    return True


@shared_task(name="orders.place_order", throws=(InvalidIntent,))
def place_order(order_id: str) -> dict[str, Any]:
    """Send a stored order, if it is still CREATED."""
    try:
        key = UUID(order_id)
    except (ValueError, AttributeError, TypeError):
        raise invalid("order_id", f"{order_id!r} is not an order id") from None
    try:
        place = partial(services.place_order, key, is_due=_is_handed_over())
        return _order_result(place)
    except Order.DoesNotExist:
        raise invalid("order_id", f"there is no order {order_id}") from None


@shared_task(name="orders.cancel_order", **_FROM_CALLERS)
def cancel_order(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Cancel an order by its intent: `account, intent_id, requested_by="", reason=""`.

    The actor of a message is its sender. Whoever reaches the broker can write any name into it, so
    `requested_by` is kept as a claim.
    """
    try:
        arguments = _cancel_arguments(args, kwargs)
        if sender := _sender():
            arguments["claimed_by"] = arguments.pop("requested_by", "")
            arguments["requested_by"] = sender
        return payloads.order_result(_cancel_now_or_once_known(**arguments))
    except InvalidIntent as error:
        _log_invalid("cancel_order", error, kwargs)
        raise


def _cancel_now_or_once_known(
    account: str,
    intent_id: str,
    requested_by: str = "",
    reason: str = "",
    claimed_by: str = "",
) -> Order:
    """Cancel an order. Remember the cancel of an unknown intent: it may have overtaken its submit.

    The caller gets `InvalidIntent` all the same, as an unknown intent may be a mistake.
    """
    given = {
        "account": account,
        "intent_id": intent_id,
        "requested_by": requested_by,
        "reason": reason,
        "claimed_by": claimed_by,
    }
    try:
        return services.cancel_order(**given)
    except InvalidIntent as error:
        if error.field != "intent_id":
            raise
    services.remember_cancel(
        account=account_named(account),
        intent_id=intent_id,
        requested_by=requested_by,
        reason=reason,
    )
    return services.cancel_order(**given)  # it may have been recorded in this moment


def _sender() -> str:
    """Return `message:` and the sender of this message, nothing if a caller runs the body."""
    request = current_task.request
    if request.called_directly or request.is_eager:
        return ""
    name = "".join(letter for letter in str(request.origin or "unknown") if letter.isprintable())
    return f"message:{name[:100]}"


@shared_task(name=DRIVE_CANCELS, throws=(InvalidIntent,))
def drive_cancels(order_ids: list[str], seconds: float) -> None:
    """Send the cancels that are recorded for these orders. Others are left alone."""
    try:
        keys = [UUID(key) for key in order_ids]
    except (ValueError, AttributeError, TypeError):
        raise invalid("order_ids", "must be a list of order ids") from None
    give_up_at = clock.monotonic() + min(float(seconds), _LONGEST_DRIVE_SECONDS)
    cancel_many.drive_cancels(keys, requested_by="", give_up_at=give_up_at)


KNOWN_FIELDS = {*FIELDS, "requested_by", "reason", "order_id"}
_CANCEL_FIELDS = ("account", "intent_id", "requested_by", "reason")


def _cancel_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, str]:
    bound = bind_arguments(args, kwargs, fields=_CANCEL_FIELDS)
    for name, value in bound.items():
        if name not in _CANCEL_FIELDS:
            raise unknown_argument(name)
        if not isinstance(value, str):
            raise invalid(name, f"expected text, got {type(value).__name__}")
    for name in ("account", "intent_id"):
        if name not in bound:
            raise invalid(name, "is missing")
    parse_account(bound["account"])
    parse_known_intent_id(bound["intent_id"])
    return bound


def _log_invalid(task: str, error: InvalidIntent, kwargs: dict[str, Any]) -> None:
    # A name that the sender made up would be one more series of the metrics.
    field = error.field if error.field in KNOWN_FIELDS else "other"
    counters.count("invalid_intents", task=task, field=field)
    log.warning(
        "intent_invalid",
        task=task,
        error=str(error),
        intent_id=str(kwargs.get("intent_id", ""))[:64],
    )


@shared_task(name="orders.resolve_unconfirmed")
def resolve_unconfirmed() -> dict[str, int]:
    """Give every due order its next step. Each account with due orders has its own sweep."""
    return sweep.resolve_unconfirmed(
        lambda account: enqueue_each(
            sweep_account, [account.name], every=settings.RESOLVE_INTERVAL_SECONDS
        ),
        read_elsewhere=_reader(),
    )


@shared_task(name="orders.sweep_account", throws=(InvalidIntent,))
def sweep_account(account: str) -> dict[str, int]:
    """Give every due order of one account its next step."""
    return sweep.sweep_account(account_named(account), read_elsewhere=_reader())


@shared_task(name="orders.apply_halt_rules")
def apply_halt_rules() -> dict[str, int]:
    """Halt the accounts that break a halt rule."""
    return auto_halt.apply_halt_rules()


@shared_task(name="orders.send_order_events")
def send_order_events() -> dict[str, int]:
    """Send bots the order events that could not be sent at once."""
    return outbox.sweep()


@shared_task(name="orders.sync_accounts")
def sync_accounts() -> dict[str, int]:
    """Enqueue a sync of orders and one of balances for every followed account that is due.

    Balances that a healthy stream brings need no reading. Histories whose turn is overdue go on.
    """
    due = open_orders.accounts_due_for_sync()
    streaming = open_orders.accounts_with_healthy_stream()
    overdue = histories.overdue_accounts(open_orders.followed_accounts())
    every = settings.SYNC_INTERVAL_SECONDS
    sync_balances = current_app.tasks["exchanges.sync_balances"]
    enqueue_each(sync_open_orders, due, every=every)
    enqueue_each(sync_balances, [name for name in due if name not in streaming], every=every)
    enqueue_each(read_history, overdue, every=every)
    return {"accounts": len(due)}


@shared_task(name="orders.reconcile_accounts")
def reconcile_accounts() -> dict[str, int]:
    """Enqueue a reconciliation of every followed account."""
    names = list(open_orders.followed_accounts().values_list("name", flat=True))
    return {"accounts": enqueue_each(reconcile_account, names, every=RECONCILE_SECONDS)}


@shared_task(name=asking.ASK_ORDER)
def ask_order(order_id: str) -> dict[str, Any]:
    """Ask the exchange about an order, for a person at a process without keys."""
    return asking.answer_of(UUID(order_id))


@shared_task(name="orders.sync_open_orders", **_READS)
def sync_open_orders(account: str) -> dict[str, int]:
    """Compare one account's open orders with the exchange's.

    While the account's stream is down, this reads its history, too.
    """
    owner = account_named(account)
    with stopping_refused(owner):
        counts = open_orders.sync_open_orders(owner)
        if not counts.get("skipped") and not open_orders.has_healthy_stream(owner):
            history.read_on(owner)
    return counts


@shared_task(name="orders.reconcile_account", **_READS)
def reconcile_account(account: str) -> dict[str, int]:
    """Compare one account with the exchange and repair the differences that evidence decides."""
    owner = account_named(account)
    with stopping_refused(owner):
        counts = compare.reconcile_account(owner)
    if counts.get("history_unread") and not counts.get("history_waits"):
        reconcile_account.apply_async((account,))
    return counts


@shared_task(name="orders.read_history", **_READS)
def read_history(account: str) -> dict[str, int]:
    """Continue with the order histories of one account whose turn is overdue."""
    owner = account_named(account)
    with stopping_refused(owner):
        return histories.read_history(owner)


@shared_task(name="orders.refresh_mids")
def refresh_mids() -> dict[str, int]:
    """Enqueue a reading of bids and asks for each environment in use."""
    names = one_of_each_environment()
    return {
        "environments": enqueue_each(refresh_mids_of, names, every=settings.MID_INTERVAL_SECONDS)
    }


@shared_task(name="orders.refresh_mids_of", **_READS)
def refresh_mids_of(account: str) -> dict[str, int]:
    """Read the best bids and asks of an environment, through this account or another one."""
    return mids.refresh_mids(account_named(account))


@shared_task(name="orders.refresh_positions")
def refresh_positions() -> dict[str, int]:
    """Enqueue an update of the positions and their prices for every enabled account."""
    names = list(ExchangeAccount.objects.filter(is_enabled=True).values_list("name", flat=True))
    return {"accounts": enqueue_each(refresh_positions_of, names, every=REFRESH_SECONDS)}


@shared_task(name="orders.refresh_positions_of", **_READS)
def refresh_positions_of(account: str) -> dict[str, int]:
    """Apply one account's final fills to its positions, update their prices, and keep a sample."""
    owner = account_named(account)
    counts = {**store.advance_positions(owner), "priced": store.refresh_prices(owner)}
    samples.keep_sample(owner)
    return counts
