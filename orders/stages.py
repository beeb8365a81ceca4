"""Time the stages of placing an order, from the moment a process takes it to its first fill.

The durations are stored with the attempt, by the statements that store it anyway, and counted in
histograms for `/metrics`. If another process records the exchange's answer first (the listener),
only the stages up to the gate are known, and when the answer was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from exchanges import clock
from exchanges.limits import counters
from orders.models import ExchangeOrder, Fill, Order


class Stage(StrEnum):
    """Name the moments of a placement, in their order."""

    RECEIVED = "received"  # a process begins with the order
    GATED = "gated"  # the gate has let it pass (`ExchangeOrder.sent_at`)
    CLAIMED = "claimed"  # the claim is on disk
    SENT = "sent"  # the request leaves
    ANSWERED = "answered"  # the exchange's answer is here
    RECORDED = "recorded"  # the answer goes to the database
    FIRST_FILL = "first_fill"  # by the exchange's clock


#: The stages whose durations an attempt's row holds, each since the one before.
_TIMED = (Stage.GATED, Stage.CLAIMED, Stage.SENT, Stage.ANSWERED, Stage.RECORDED)
_MOST = 2**31 - 1  # microseconds that the column can hold: 36 minutes
HISTOGRAM = "order_stage_seconds"
WHOLE = "all"


class StageTimer:
    """Note when one order reaches each stage in this process."""

    def __init__(self) -> None:
        self._at = {Stage.RECEIVED: clock.monotonic()}

    def reach(self, stage: Stage) -> None:
        """Note that the stage is reached now. A later try overwrites an earlier one."""
        self._at[stage] = clock.monotonic()

    def microseconds(self) -> list[int]:
        """Return the duration of each stage since the one before, up to the first unknown one."""
        found: list[int] = []
        before = self._at[Stage.RECEIVED]
        for stage in _TIMED:
            if stage not in self._at:
                break
            found.append(min(max(round((self._at[stage] - before) * 1e6), 0), _MOST))
            before = self._at[stage]
        return found

    def count(self) -> None:
        """Add the durations, and their sum, to the histograms."""
        durations = self.microseconds()
        for stage, duration in zip(_TIMED, durations, strict=False):
            counters.observe(HISTOGRAM, duration / 1e6, stage=stage)
        if len(durations) == len(_TIMED):
            counters.observe(HISTOGRAM, sum(durations) / 1e6, stage=WHOLE)


def count_first_fill(attempt: ExchangeOrder, now: datetime) -> None:
    """Add the time from the gate to the record of the first fill to the histograms."""
    if attempt.sent_at is not None:
        seconds = max((now - attempt.sent_at).total_seconds(), 0.0)
        counters.observe(HISTOGRAM, seconds, stage=Stage.FIRST_FILL)


@dataclass(frozen=True, slots=True)
class StageReached:
    """One stage of one attempt. `took` is the time since the stage before, None if unknown."""

    attempt: int
    stage: Stage
    at: datetime
    took: timedelta | None


def stages_of(order: Order) -> list[StageReached]:
    """Return the known stages of the order's attempts, oldest attempt first."""
    found: list[StageReached] = []
    for attempt in ExchangeOrder.objects.filter(order=order).order_by("attempt"):
        found += _stages(attempt)
        fills = Fill.objects.filter(exchange_order=attempt).order_by("traded_at")
        traded_at = fills.values_list("traded_at", flat=True).first()
        if traded_at is not None:
            found.append(StageReached(attempt.attempt, Stage.FIRST_FILL, traded_at, None))
    return found


def _stages(attempt: ExchangeOrder) -> Iterator[StageReached]:
    """Yield the stages of the attempt's row. The gate's moment is the fixed point."""
    number, gated_at, durations = attempt.attempt, attempt.sent_at, attempt.stage_us or []
    if gated_at is None:
        return
    took = [timedelta(microseconds=duration) for duration in durations]
    at = gated_at - took[0] if took else gated_at
    if took:
        yield StageReached(number, Stage.RECEIVED, at, None)
    else:
        yield StageReached(number, Stage.GATED, at, None)
    for stage, duration in zip(_TIMED, took, strict=False):
        at += duration
        yield StageReached(number, stage, at, duration)
    if len(took) < len(_TIMED) and attempt.acknowledged_at is not None:
        yield StageReached(number, Stage.RECORDED, attempt.acknowledged_at, None)
