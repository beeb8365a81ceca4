"""Watch orders in the database until the exchange has answered, and summarize their states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from exchanges import clock
from orders.models import Order, Status
from orders.states import UNRESOLVED, OrderStatus

POLL_SECONDS = 0.2
# An order without an answer gets one, or is closed, well within this time.
PATIENCE_SECONDS = 90.0
NOT_RECORDED = "(none)"
# A person wants to see the reason of these.
_WITHOUT_SUCCESS = frozenset(
    {OrderStatus.DENIED, OrderStatus.NOT_PLACED, OrderStatus.REJECTED, *UNRESOLVED}
)
_CHUNK = 500

Item = TypeVar("Item")
Key = tuple[str, str]  # account name, intent id


@dataclass(frozen=True, slots=True)
class Seen:
    """The last read state of an order."""

    status: str = NOT_RECORDED
    reason_code: str = ""
    reason: str = ""

    @property
    def is_answered(self) -> bool:
        """Return True if the order is acknowledged or closed."""
        return self.status != NOT_RECORDED and self.status not in UNRESOLVED


def follow(keys: Sequence[Key], report: Callable[[int], None]) -> dict[Key, Seen]:
    """Poll until every order is acknowledged or closed, or none changes for `PATIENCE_SECONDS`.

    Calls `report` with the number of answered orders at each poll. Ctrl-C stops the polling, not
    the orders.
    """
    states = dict.fromkeys(keys, Seen())
    changed_at = clock.monotonic()
    try:
        while waiting := [key for key, seen in states.items() if not seen.is_answered]:
            report(len(states) - len(waiting))
            found = dict(_read(waiting))
            if any(states[key] != seen for key, seen in found.items()):
                changed_at = clock.monotonic()
            states.update(found)
            if clock.monotonic() - changed_at > PATIENCE_SECONDS:
                break
            clock.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    report(sum(seen.is_answered for seen in states.values()))
    return states


def _read(keys: Iterable[Key]) -> Iterator[tuple[Key, Seen]]:
    by_account: dict[str, list[str]] = {}
    for account, intent_id in keys:
        by_account.setdefault(account, []).append(intent_id)
    for account, intent_ids in by_account.items():
        for part in chunks(intent_ids, _CHUNK):
            rows = Order.objects.filter(account__name=account, intent_id__in=part).order_by()
            for intent_id, *state in rows.values_list(
                "intent_id", "status", "reason_code", "reason"
            ):
                yield (account, intent_id), Seen(*state)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def summary(states: dict[Key, Seen], line_numbers: dict[Key, int]) -> list[str]:
    """Return lines with counts by status, and each order without success with its reason."""
    counts = Counter(seen.status for seen in states.values())
    lines = [
        f"  {status:<17}{counts[status]:>6}  {_label(status)}"
        for status in _known_statuses()
        if counts[status]
    ]
    troubled = {
        key: seen
        for key, seen in states.items()
        if seen.status in (*_WITHOUT_SUCCESS, NOT_RECORDED)
    }
    if troubled:
        lines.append("")
    for key, seen in sorted(troubled.items(), key=lambda item: line_numbers[item[0]]):
        reason = ": ".join(filter(None, (seen.reason_code, seen.reason))) or _label(seen.status)
        lines.append(f"  line {line_numbers[key]:<5} {key[1]}  {seen.status}  {reason}")
    return lines


def _known_statuses() -> list[str]:
    return [*OrderStatus, NOT_RECORDED]


def _label(status: str) -> str:
    return (
        "not recorded yet: is a worker running?"
        if status == NOT_RECORDED
        else str(Status(status).label)
    )
