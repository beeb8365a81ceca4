"""Python's garbage collector, in processes whose answers are waited for."""

from __future__ import annotations

import gc

# A full collection looks at every object of the process: 100 ms in which no order goes on, each few hundred orders.
_THRESHOLDS = (20_000, 10, 10)


def collect_seldom() -> None:
    """To be called when everything is loaded: none of it is ever garbage, so it is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
