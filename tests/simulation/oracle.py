"""Compare the book with the exchange's truth, after the faults have stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.db.models import F

from backoffice.people.journal import verifying
from backoffice.people.models import JournalEntry
from exchanges.models import Balance, ExchangeAccount, Reservation
from orders.ids import split_client_order_id
from orders.models import (
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    OrderNotice,
    ReconciliationBreak,
)
from orders.placing.intent_order import names_of
from orders.recording.plan import attempt_state
from orders.recording.status import status_of
from orders.states import CLOSED, OPEN, TRANSITIONS, UNRESOLVED, OrderStatus
from tests.simulation.acting import Actor
from tests.simulation.changes import LimitChange
from tests.simulation.database import moment
from tests.simulation.network import Placed
from tests.simulation.world import World

#: Breaks that a story without hands, resets and broken assumptions may leave open.
_ALLOWED_BREAKS: frozenset[str] = frozenset({"LATE_EVIDENCE"})
_CLOCKS_DIFFER = 4.0  # seconds: stories step the clocks of hosts by up to 3


def unsettled() -> str:
    """Return what still waits for something, or an empty text. One query in the usual case."""
    for order in Order.objects.filter(status__in=[*UNRESOLVED]).order_by("pk")[:1]:
        return f"{order.intent_id} is {order.status}"
    for order in Order.objects.filter(next_check_at__isnull=False).order_by("pk")[:1]:
        return f"{order.intent_id} ({order.status}) has a next step"
    for notice in OrderNotice.objects.filter(sent_at=None).order_by("pk")[:1]:
        return f"the bot hasn't heard of version {notice.version} of {notice.order_id}"
    for row in Reservation.objects.order_by("pk")[:1]:
        return f"{row.amount} {row.asset} are reserved for {row.reference}"
    return ""


def judge(world: World, actor: Actor) -> list[str]:
    """Return everything that is wrong, in plain words."""
    truth = world.exchange.simulator.engine.truth()["accounts"]
    problems: list[str] = []
    for account in ExchangeAccount.objects.order_by("name"):
        rows = truth[account.name]
        problems += _one_order_each(world, account)
        problems += _same_orders(world, account, rows)
        problems += _same_balances(account, rows)
    problems += _intents(actor)
    problems += _statuses()
    problems += _as_asked()
    problems += _events()
    problems += _only_forward()
    problems += _rules(world)
    problems += _cancels(world)
    problems += _limits(world, actor)
    problems += _halts(world)
    problems += _halted_again()
    problems += _breaks(world)
    problems += _notices(world)
    problems += _reviews(world, actor)
    problems += _money(world)
    problems += _stale(world)
    problems += _journal()
    problems += [f"failed: {text}" for text in world.failures]
    problems += [f"failed: {text}" for text in world.ears.failures]
    problems += [
        f"failed: {task.name}: {type(task.error).__name__}: {task.error}"
        for task in world.scheduler.tasks
        if task.error is not None
    ]
    return problems


def _one_order_each(world: World, account: ExchangeAccount) -> Iterator[str]:
    """Check the first promise: one intent, at most one order that the exchange ever accepted.

    Where a story breaks the stated assumptions on purpose, a double must be found: at most one
    is live, and a break stands. One of them is that the database and Redis never lose the same
    moment: a claim that both have lost is in no memory.
    """
    accepted: dict[tuple[str, int], list[Placed]] = defaultdict(list)
    for placed in world.exchange.placed:
        ours = split_client_order_id(placed.client_order_id)
        if placed.account == account.name and ours is not None:
            accepted[ours[0], placed.life].append(placed)
    for (hashed, _), orders in accepted.items():
        count = len(orders)
        if count < 2:
            continue
        if not world.breaks_assumptions and not world.was_lost_by_both(orders[0].at_us):
            yield f"{account.name}: {count} orders were accepted for the intent of bo-{hashed}"
            continue
        world.marks.add("double found")
        names = [placed.client_order_id for placed in orders]
        rows = ExchangeOrder.objects.filter(account=account, client_order_id__in=names)
        alive = [row for row in rows if attempt_state(row).is_alive]
        breaks = ReconciliationBreak.objects.filter(
            order__in=rows.values("order"), resolved_at__isnull=True
        )
        if len(alive) > 1:
            yield f"{account.name}: {len(alive)} orders of the intent of bo-{hashed} are live"
        if not breaks.exists():
            yield f"{account.name}: no break names the {len(names)} orders of bo-{hashed}"


def _same_orders(world: World, account: ExchangeAccount, truth: Mapping[str, Any]) -> Iterator[str]:
    rows = ExchangeOrder.objects.filter(account=account).exclude(exchange_order_id="")
    # What the exchange had before its reset is gone there.
    rows = rows.exclude(exchange_created_at__lt=moment(world.reset_at_us))
    book = {(row.symbol, row.exchange_order_id): row for row in rows.select_related("order")}
    trades: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for trade in truth["trades"]:
        key = trade["symbol"], str(trade["order_id"])
        trades[key][str(trade["trade_id"])] = trade
    for order in truth["orders"]:
        key = order["symbol"], str(order["order_id"])
        name = f"{account.name}: {order['client_order_id']} ({key[0]} {key[1]})"
        row = book.pop(key, None)
        if row is None:
            yield f"{name} is {order['status']} at the exchange, and the book has no such order"
            continue
        yield from _same_order(name, row, order)
        yield from _same_fills(name, row, trades[key])
    for row in book.values():
        yield f"{account.name}: the exchange has no {row.client_order_id}, the book has"


def _same_order(name: str, row: ExchangeOrder, order: Mapping[str, Any]) -> Iterator[str]:
    if row.exchange_status != order["status"]:
        yield f"{name} is {order['status']} at the exchange, {row.exchange_status} in the book"
    for ours, theirs in (
        (row.filled_quantity, order["executed_quantity"]),
        (row.filled_quote_quantity, order["executed_quote"]),
        (row.fills_quantity, order["executed_quantity"]),
    ):
        if ours != Decimal(theirs):
            yield f"{name} is filled by {theirs} at the exchange, by {ours} in the book"
            return


def _same_fills(
    name: str, row: ExchangeOrder, trades: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    fills = {fill.trade_id: fill for fill in Fill.objects.filter(exchange_order=row)}
    if set(fills) != set(trades):
        yield f"{name} has the trades {sorted(trades)}, the book has {sorted(fills)}"
        return
    for trade_id, fill in fills.items():
        trade = trades[trade_id]
        for ours, theirs in (
            (fill.quantity, trade["quantity"]),
            (fill.price, trade["price"]),
            (fill.commission, trade["commission"]),
        ):
            if ours != Decimal(theirs):
                yield f"{name}: trade {trade_id} says {theirs}, the book {ours}"
        if fill.commission_asset != trade["commission_asset"]:
            yield f"{name}: trade {trade_id} has another asset for its fee"


def _same_balances(account: ExchangeAccount, truth: Mapping[str, Any]) -> Iterator[str]:
    book = {row.asset: row for row in Balance.objects.filter(account=account)}
    for asset, amounts in truth["balances"].items():
        row = book.get(asset)
        ours = (row.free, row.locked) if row else (Decimal(0), Decimal(0))
        theirs = Decimal(amounts["free"]), Decimal(amounts["locked"])
        if ours != theirs:
            yield f"{account.name}: {asset} is {theirs} at the exchange, {ours} in the book"
        if row is not None and row.reserved:
            yield f"{account.name}: {row.reserved} {asset} stay reserved"


def _intents(actor: Actor) -> Iterator[str]:
    """Check that nothing that a bot repeated was lost, and that every cancel was met."""
    rows = list(Order.objects.select_related("account").order_by("pk"))
    orders = {(row.account.name, row.intent_id): row for row in rows}
    if len(orders) < len(rows):
        yield f"{len(rows) - len(orders)} orders have the intent of another one"
    for key in actor.submitted:
        if key not in orders:
            yield f"{key[1]} of {key[0]} was submitted, and the book has no such order"
    names = {row.account.name: row.account for row in rows}
    for key in actor.cancels:
        ways = names_of(names[key[0]], key[1]) if key[0] in names else ()
        order = next((orders[key[0], name] for name in ways if (key[0], name) in orders), None)
        if order is not None and order.status not in CLOSED:
            yield f"{key[1]} of {key[0]} was to be canceled and is {order.status}"
    for key, order in orders.items():
        is_ours = not order.is_external and not order.intent_id.startswith("recovered:")
        if is_ours and key not in actor.submitted:
            yield f"nobody submitted {order.intent_id}"


def _notices(world: World) -> Iterator[str]:
    """Check that the bot's newest message about each order tells its state."""
    if not world.notifies or "failover" in world.marks:
        return  # versions go back with the book
    newest: dict[str, tuple[int, str, str]] = {}
    seen: dict[str, set[int]] = defaultdict(set)
    for message in world.broker.inbox:
        order = message["order"]
        told = (int(message["version"]), str(order["status"]), str(order["filled_quantity"]))
        name = str(order["order_id"])
        if told[0] not in seen[name] and told[0] < max(seen[name], default=0):
            yield f"the bot heard of version {told[0]} of {name} after a newer one"
        before = newest.get(name)
        if before is not None and told[0] > before[0] and Decimal(told[2]) < Decimal(before[2]):
            yield f"the bot heard that {name} is filled by {before[2]}, and then by {told[2]}"
        seen[name].add(told[0])
        newest[name] = max(newest.get(name, told), told)
    for order in Order.objects.order_by("pk"):
        known = newest.get(str(order.pk))
        if known is None or known[1] != order.status:
            yield f"{order.intent_id} is {order.status}, and the bot heard {known}"
        elif Decimal(known[2]) != order.filled_quantity:
            yield f"{order.intent_id} is filled by {order.filled_quantity}, heard {known[2]}"


def _reviews(world: World, actor: Actor) -> Iterator[str]:
    """Check that no order that needs a second person was claimed before one released it."""
    if actor.review_above is None or "failover" in world.marks:
        return
    rows = OrderEvent.objects.filter(order__is_external=False).order_by("id")
    events: dict[Any, list[str]] = defaultdict(list)
    for order_id, event_type in rows.values_list("order_id", "event_type"):
        events[order_id].append(event_type)
    for order in Order.objects.order_by("pk"):
        told = events[order.pk]
        if "CLAIMED" not in told:
            continue
        value = order.price * order.quantity if order.price and order.quantity else None
        needs = "HELD" in told or (value is not None and value > actor.review_above)
        if needs and "RELEASED" not in told[: told.index("CLAIMED")]:
            yield f"{order.intent_id} was claimed, and no second person had released it"


def _stale(world: World) -> Iterator[str]:
    """Check that nothing was claimed after its deadline, by the clock of the one who claimed it.

    And that nothing was accepted later than its deadline, the window and the clocks allow.
    """
    for row in ExchangeOrder.objects.filter(
        request_timestamp_ms__isnull=False, sent_at__gte=F("order__place_by")
    ).order_by("pk"):
        yield f"{row.client_order_id} was claimed after its deadline"
    rows = list(ExchangeOrder.objects.select_related("order"))
    deadlines = {row.client_order_id: row.order.place_by for row in rows}
    window = {row.client_order_id: row.recv_window_ms for row in rows}
    clocks_differ = _CLOCKS_DIFFER + world.exchange_clock_steps
    for placed in world.exchange.placed:
        place_by = deadlines.get(placed.client_order_id)
        if place_by is None:
            continue
        late = (moment(placed.at_us) - place_by).total_seconds()
        if late > (window.get(placed.client_order_id) or 0) / 1000 + clocks_differ:
            yield f"{placed.client_order_id} was accepted {late:.1f} s after its deadline"


def _money(world: World) -> Iterator[str]:
    """Check that the gate let nothing pass that the account's own orders had spent already."""
    if "hand" in world.marks or "failover" in world.marks or not world.is_poor:
        return
    for order in Order.objects.filter(status="REJECTED", reason_code="-2010"):
        yield f"{order.intent_id} was refused for lack of money: {order.reason}"


def _journal() -> Iterator[str]:
    found = verifying.verify()
    for finding in found.findings:
        yield f"the journal doesn't verify: {finding}"


def _statuses() -> Iterator[str]:
    """Check that each status follows from the attempts, and that each open fate has a next step."""
    for order in Order.objects.order_by("pk"):
        attempts = list(ExchangeOrder.objects.filter(order=order).order_by("attempt"))
        states = [attempt_state(row) for row in attempts]
        expected = status_of(states, OrderStatus(order.verdict))
        if order.status != expected:
            yield f"{order.intent_id} is {order.status}, its attempts say {expected}"
        filled = sum((row.filled_quantity for row in attempts), Decimal(0))
        if filled != order.filled_quantity:
            yield f"{order.intent_id} is filled by {order.filled_quantity}, its attempts: {filled}"
        if order.status in CLOSED and order.closed_at is None:
            yield f"{order.intent_id} is {order.status} without a time"


def _as_asked() -> Iterator[str]:
    """Check that no request asked for more than its intent, or for a worse price."""
    rows = ExchangeOrder.objects.filter(order__is_external=False).select_related("order")
    for row in rows.filter(request_timestamp_ms__isnull=False).order_by("pk"):
        order, name = row.order, row.client_order_id
        if row.quantity and order.quantity and row.quantity > order.quantity:
            yield f"{name} asked for {row.quantity}, its intent for {order.quantity}"
        if not row.price or not order.price:
            continue
        is_worse = row.price > order.price if order.side == "BUY" else row.price < order.price
        if is_worse:
            yield f"{name} asked for the price {row.price}, its intent for {order.price}"


def _events() -> Iterator[str]:
    """Check that the events of each order explain its status, without a gap."""
    last: dict[Any, str] = {}
    # An order that was recovered and recorded again has two histories, which overlap.
    joined = set(OrderEvent.objects.filter(event_type="ADOPTED").values_list("order_id", flat=True))
    for event in OrderEvent.objects.exclude(order_id__in=joined).order_by("order_id", "id"):
        before = last.get(event.order_id)
        if before is None:
            if event.event_type != "CREATED" and event.previous_status:
                yield f"the first event of {event.order_id} is {event.event_type}"
        elif event.previous_status and event.previous_status != before:
            yield (
                f"an event of {event.order_id} begins at {event.previous_status},"
                f" the one before ended at {before}"
            )
        last[event.order_id] = event.new_status or before or ""
    for order in Order.objects.exclude(pk__in=joined).order_by("pk"):
        if order.pk not in last:
            yield f"{order.intent_id} has no event"
        elif last[order.pk] != order.status:
            yield f"{order.intent_id} is {order.status}, its last event says {last[order.pk]}"


def _only_forward() -> Iterator[str]:
    """Check that no order did what the table of changes forbids, and that none came to life again.

    An order of one attempt that the exchange has ended stays ended.
    """
    ended: set[Any] = set()
    rows = OrderEvent.objects.filter(order__attempt=1).order_by("order_id", "id")
    for event in rows.values("order_id", "event_type", "previous_status", "new_status"):
        before, after = event["previous_status"], event["new_status"]
        if before and after and after != before and after not in TRANSITIONS[OrderStatus(before)]:
            yield f"{event['order_id']} went from {before} to {after}"
        if event["order_id"] in ended and after in OPEN:
            yield f"{event['order_id']} was {before} by the exchange's word, and then {after}"
        if event["event_type"] == "REPORT" and after in ("CANCELED", "EXPIRED", "FILLED"):
            ended.add(event["order_id"])


def _limits(world: World, actor: Actor) -> Iterator[str]:
    """Check that no order exceeded the limit that was in force when it was claimed."""
    claims = {
        event.details.get("client_order_id"): event.pk
        for event in OrderEvent.objects.filter(event_type="CLAIMED")
    }
    for placed in world.exchange.placed:
        changes = actor.limit_changes.get(placed.account, [])
        claim = claims.get(placed.client_order_id)
        limit = _limit_of(changes, claim) if claim is not None else None
        if limit is not None and placed.open_before + 1 > limit:
            yield (
                f"{placed.account} had {placed.open_before} open orders at the exchange, at most"
                f" {limit} are allowed, and {placed.client_order_id} was accepted"
            )


def _limit_of(changes: Sequence[LimitChange], claim: int) -> int | None:
    """Return the widest limit that the claim may have seen. None: it may have seen none."""
    widest: int | None = None
    for change in changes:
        if claim not in change.claims:
            widest = change.open_orders  # the earlier ones were over
        elif widest is not None:
            # It had committed when this change was answered, so either may have been in force.
            return max(widest, change.open_orders)
        else:
            return None
    return widest


def _halts(world: World) -> Iterator[str]:
    """Check that no claim committed after a halt had, by the numbers of the events."""
    if "failover" in world.marks:
        return  # numbers go back, and so may the halt
    for halt in world.halts:
        name, end = halt.account, halt.last_event
        rows = OrderEvent.objects.filter(event_type="CLAIMED").exclude(id__in=halt.claims)
        rows = rows.filter(id__lte=end) if end is not None else rows
        rows = rows.filter(order__account__name=name) if name else rows
        for event in rows.select_related("order")[:1]:
            yield f"{event.order.intent_id} was claimed although {name or 'everything'} was halted"


def _halted_again() -> Iterator[str]:
    """Check that the exchange's refusal of a key halts no account that is halted already."""
    for entry in JournalEntry.objects.filter(verb="halt", person="exchange").order_by("pk"):
        if entry.before.get("trading_state") == "HALTED":
            yield f"{entry.account} was halted again, although it was: {entry.before}"


def _rules(world: World) -> Iterator[str]:
    """Check that new rules, which changed only once, have refused no order for good."""
    if not world.rules_change_once:
        return
    for order in Order.objects.filter(status="REJECTED").order_by("pk"):
        yield f"{order.intent_id} was refused by new rules: {order.reason_code} {order.reason}"


def _cancels(world: World) -> Iterator[str]:
    """Check that no cancel waited for longer than the listener may need for it."""
    if world.cancels_within is None:
        return
    for order in Order.objects.filter(cancel_requested_at__isnull=False).order_by("pk"):
        if order.closed_at is None or order.cancel_requested_at is None:
            continue  # another check says so
        waited = (order.closed_at - order.cancel_requested_at).total_seconds()
        if waited > world.cancels_within:
            yield f"the cancel of {order.intent_id} waited for {waited:.1f} s"


def _breaks(world: World) -> Iterator[str]:
    if "hand" in world.marks or "failover" in world.marks or world.breaks_assumptions:
        return
    allowed = _ALLOWED_BREAKS
    if "key refused" in world.marks:
        allowed |= {"ACCOUNT_REFUSED"}  # a person closes it with the resume
    rows = ReconciliationBreak.objects.filter(resolved_at__isnull=True).exclude(kind__in=allowed)
    for row in rows.annotate(account_name=F("account__name")).order_by("pk"):
        yield f"{row.account_name}: a break stands: {row.kind} {row.subject} {row.details}"
