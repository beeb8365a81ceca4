"""The guards between an intent and its request: gate, claim, limits, attempts, a lost past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.simulation.guards import Change, Guard, edited, nothing, without_version


def _not_found(*_: Any, **__: Any) -> Any:
    from exchanges.errors import OrderNotFound

    raise OrderNotFound("nobody asked")


def _sign_again() -> Sequence[Change]:
    from dataclasses import replace

    from exchanges import clock
    from orders.placing.claim import Claim

    request = Claim.request

    def signed_again(self: Any) -> Any:
        return replace(request(self), timestamp_ms=clock.now_ms())

    return (("orders.placing.claim:Claim.request", signed_again),)


def _unknown_is_unsent() -> Sequence[Change]:
    from exchanges.binance.parameters import error_of as judge
    from exchanges.errors import NotSent, OutcomeUnknown

    def error_of(result: Any, kind: Any) -> Any:
        error = judge(result, kind)
        return NotSent(error.message) if isinstance(error, OutcomeUnknown) else error

    return (("exchanges.binance.gateway:error_of", error_of),)


def _no_share_lock() -> Sequence[Change]:
    from orders.gate import facts

    facts._statement.cache_clear()
    return (
        ("orders.gate.facts:_STATEMENT", facts._STATEMENT.replace("FOR SHARE OF h, a", "")),
        ("orders.gate.facts:_statement", facts._statement.__wrapped__),
    )


def _read_usage_unlocked() -> Sequence[Change]:
    return (edited("orders.gate.usage:_read_locked", " ORDER BY id FOR UPDATE", " ORDER BY id"),)


def _no_catch_up() -> Sequence[Change]:
    return (
        ("orders.gate.decide:_require_history", nothing),
        ("orders.book_identity:trusted_from", lambda distrusted: distrusted),
    )


def _trust() -> Sequence[Change]:
    return (
        ("orders.book_identity:agrees", lambda memory, token, missing_claims: True),
        ("orders.book_identity:note_claim", nothing),
        ("orders.book_identity:doubt", nothing),
    )


def _read_behind_own() -> Sequence[Change]:
    """Let a reading begin behind the newest order that the book has sent."""
    from orders.models import ExchangeOrder
    from orders.reconciliation import history

    start = history._start

    def behind_own(progress: Any, *, include_external: bool) -> int | None:
        rows = ExchangeOrder.objects.filter(
            account=progress.account, symbol=progress.symbol, request_timestamp_ms__isnull=False
        ).exclude(exchange_order_id="")
        known = [int(text) + 1 for text in rows.values_list("exchange_order_id", flat=True)]
        first = start(progress, include_external=include_external)
        return max([*known, first or 0]) or None

    return (("orders.reconciliation.history:_start", behind_own),)


def _oldest_first(account: Any, *, only_unsent: bool = False, may_place: bool = True) -> list[Any]:
    """Return the due orders, the longest overdue first, whether they are to be canceled or not."""
    from exchanges import clock
    from orders import due
    from orders.models import Order
    from orders.states import LOCAL

    rows = Order.objects.filter(account=account, next_check_at__lte=clock.now())
    rows = rows.filter(status__in=[*LOCAL]) if only_unsent else rows
    first = rows.select_related("account").order_by("next_check_at")[: due.BATCH]
    return [order for order in first if may_place or order.status != "CREATED"]


def _held_until_its_deadline() -> Sequence[Change]:
    from orders.placing import cancel_many

    text = cancel_many._REQUEST_CANCELS
    begin, end = text.index("CASE"), text.index("END,") + len("END,")
    changed = text[:begin] + "COALESCE(next_check_at, %(now)s)," + text[end:]
    return (("orders.placing.cancel_many:_REQUEST_CANCELS", changed),)


def _halt_again(account: Any, error: Any) -> None:
    from exchanges.trading_state import halt_trading

    if error.http_status is not None:
        halt_trading(account=account, reason=str(error), actor="exchange")


def _read_by_one(account: Any, symbol: str) -> None:
    """Read a symbol's rules, unless another worker does so: then the old ones must do."""
    from exchanges.db.leases import acquire, holder_name
    from exchanges.mirror import instruments

    group = f"rules:{account.exchange}:{account.environment}:"
    if acquire(group + symbol, holder_name(), instruments.LEARN_SECONDS):
        instruments._learn(account, symbol, group, f"{group}mark:{symbol}")


SENDING: tuple[Guard, ...] = (
    Guard(
        "one order per intent",
        "said twice",
        drop=(
            ("orders_order", "order_unique_intent"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
    ),
    Guard(
        "compare-and-swap of a claim",
        "placed twice",
        lambda: (("orders.placing.claim:own_version", without_version),),
        drop=(
            ("orders_exchangeorder", "exchange_order_unique_attempt"),
            ("orders_exchangeorder", "exchange_order_unique_client_id"),
        ),
    ),
    Guard(
        "fence: the request's own time",
        "stopped senders",
        _sign_again,
    ),
    Guard(
        "question before a second attempt",
        "lost answers",
        lambda: (
            ("orders.sweep:ask_for", _not_found),
            ("orders.sweep:find_order", nothing),
        ),
    ),
    Guard(
        "horizon of absence",
        "early answers",
        lambda: (("orders.sweep:fence_ms", lambda attempt: 0),),
    ),
    Guard(
        "every source before absence",
        "amended unseen",
        lambda: (("orders.sweep:find_order", nothing),),
    ),
    Guard(
        "unknown is not unsent",
        "lost answers",
        _unknown_is_unsent,
    ),
    Guard(
        "identity of the book",
        "lost claims",
        _trust,
    ),
    Guard(
        "history after a book went back",
        "lost claims",
        _no_catch_up,
    ),
    Guard(
        "fence after a book went back",
        "lost in flight",
        lambda: (("orders.book_identity:trusted_from", lambda distrusted: distrusted),),
    ),
    Guard(
        "share lock on halt and account",
        "halted claims",
        _no_share_lock,
    ),
    Guard(
        "halt in the gate",
        "halts",
        lambda: (("orders.gate.decide:check_permission", nothing),),
    ),
    Guard(
        "limit of open orders",
        "crowds",
        lambda: (("orders.gate.decide:check_usage", nothing),),
    ),
    Guard(
        "lock on the limit's row",
        "crowds",
        _read_usage_unlocked,
    ),
    Guard(
        "reservation of money",
        "little money",
        lambda: (("orders.placing.claim:_reservation", lambda *_, **__: ()),),
        seed=3,
    ),
    Guard(
        "deadline",
        "late",
        lambda: (edited("orders.gate.decide:decide", "now >= place_by", "False"),),
    ),
    Guard(
        "hold for a second person",
        "reviews",
        lambda: (("orders.placing.holding:why_held", lambda *_, **__: ""),),
    ),
    Guard(
        "end of a hold",
        "reviews",
        lambda: (("orders.placing.holding:expire_held", lambda order: order),),
    ),
    Guard(
        "sweep of due orders",
        "lost answers",
        lambda: (("orders.sweep:_claimed_orders", lambda account, **_: iter(())),),
    ),
    Guard(
        "a cancel is recorded first",
        "lost cancels",
        lambda: (("orders.placing.cancel:request_cancel", lambda order, **_: order),),
    ),
    Guard(
        "early cancels",
        "early cancels",
        lambda: (
            edited("orders.placing.claim:_claim", "if facts.is_canceled_early", "if False"),
            ("orders.sweep:meet_early_cancels", nothing),
        ),
    ),
    Guard(
        "history from the last reading",
        "overtaken",
        _read_behind_own,
    ),
    Guard(
        "cancel of a lost order",
        "lost and forgotten",
        lambda: (("orders.placing.intent_order:names_of", lambda account, name: (name, name)),),
    ),
    Guard(
        "orders to cancel come first",
        "silent broker",
        lambda: (("orders.due:due_orders", _oldest_first),),
    ),
    Guard(
        "cancel of a held order",
        "canceled holds",
        _held_until_its_deadline,
    ),
    Guard(
        "one halt for a refused key",
        "refused keys",
        lambda: (("orders.placing.outcomes:stop_account", _halt_again),),
    ),
    Guard(
        "wait for the reader of new rules",
        "new rules",
        lambda: (("exchanges.mirror.instruments:learn_symbol", _read_by_one),),
    ),
    Guard(
        "amounts on any grid",
        "another grid",
        lambda: (("orders.placing.intent_order:_may_be_as_sent_then", lambda *_: False),),
        seed=7,
    ),
)
