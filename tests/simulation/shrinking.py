"""Shorten a story as long as it fails, until no step can be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.steps import Step


def shrink(steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Leave out steps, many at a time and then one by one. Without any of the rest it passes."""
    left = list(steps)
    size = max(1, len(left) // 2)
    while True:
        was_shortened = _leave_out(left, size, fails)
        if size > 1:
            size //= 2
        elif not was_shortened:
            return left


def _leave_out(left: list[Step], size: int, fails: Callable[[Sequence[Step]], bool]) -> bool:
    was_shortened, start = False, 0
    while start < len(left):
        fewer = left[:start] + left[start + size :]
        if fails(fewer):
            left[:] = fewer
            was_shortened = True
        else:
            start += size
    return was_shortened
