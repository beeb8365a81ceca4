"""Following orders in the database until the exchange has answered, and telling what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from exchanges import clock
from orders.models import Order, Status
from orders.states import UNSETTLED, OrderStatus

POLL_SECONDS = 0.2
# An order that waits for an answer moves on well within its deadline and the fence behind it.
PATIENCE_SECONDS = 90.0
NOT_RECORDED = "(none)"
# Where a person looks for the reason.
_WITHOUT_SUCCESS = frozenset({OrderStatus.DENIED, OrderStatus.NOT_PLACED, OrderStatus.REJECTED, *UNSETTLED})
_CHUNK = 500

Item = TypeVar("Item")
Key = tuple[str, str]  # account name, intent id


@dataclass(frozen=True, slots=True)
class Seen:
    """An order's state as it was read last."""

    status: str = NOT_RECORDED
    reason_code: str = ""
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        return self.status != NOT_RECORDED and self.status not in UNSETTLED


def follow(keys: Sequence[Key], tell: Callable[[int], None]) -> dict[Key, Seen]:
    """Look until every order is acknowledged or closed, or none has moved for `PATIENCE_SECONDS`.

    `tell` is given the number of settled orders at each look. Ctrl-C ends the looking, not the orders.
    """
    states = dict.fromkeys(keys, Seen())
    moved_at = clock.monotonic()
    try:
        while waiting := [key for key, seen in states.items() if not seen.is_settled]:
            tell(len(states) - len(waiting))
            found = dict(_read(waiting))
            if any(states[key] != seen for key, seen in found.items()):
                moved_at = clock.monotonic()
            states.update(found)
            if clock.monotonic() - moved_at > PATIENCE_SECONDS:
                break
            clock.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    tell(sum(seen.is_settled for seen in states.values()))
    return states


def _read(keys: Iterable[Key]) -> Iterator[tuple[Key, Seen]]:
    by_account: dict[str, list[str]] = {}
    for account, intent_id in keys:
        by_account.setdefault(account, []).append(intent_id)
    for account, intent_ids in by_account.items():
        for part in chunks(intent_ids, _CHUNK):
            rows = Order.objects.filter(account__name=account, intent_id__in=part).order_by()
            for intent_id, *state in rows.values_list("intent_id", "status", "reason_code", "reason"):
                yield (account, intent_id), Seen(*state)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def summary(states: dict[Key, Seen], line_numbers: dict[Key, int]) -> list[str]:
    """Counts by status, and each order that was not placed, denied, refused or is not settled, with its reason."""
    counts = Counter(seen.status for seen in states.values())
    lines = [f"  {status:<17}{counts[status]:>6}  {_label(status)}" for status in _known_statuses() if counts[status]]
    troubled = {key: seen for key, seen in states.items() if seen.status in (*_WITHOUT_SUCCESS, NOT_RECORDED)}
    if troubled:
        lines.append("")
    for key, seen in sorted(troubled.items(), key=lambda item: line_numbers[item[0]]):
        reason = ": ".join(filter(None, (seen.reason_code, seen.reason))) or _label(seen.status)
        lines.append(f"  line {line_numbers[key]:<5} {key[1]}  {seen.status}  {reason}")
    return lines


def _known_statuses() -> list[str]:
    return [*OrderStatus, NOT_RECORDED]


def _label(status: str) -> str:
    return "not recorded yet: is a worker running?" if status == NOT_RECORDED else str(Status(status).label)
