"""Run the exchange simulator with any number of open orders per symbol."""

from __future__ import annotations

from dataclasses import replace

from exchanges.simulator.cli import main
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.exchange import exchange

# The default of `Exchange(symbols=…)` without the filter that stops at 200.
wide = tuple(
    replace(
        spec, filters=tuple(row for row in spec.filters if row["filterType"] != "MAX_NUM_ORDERS")
    )
    for spec in DEFAULT_SYMBOLS
)
exchange.Exchange.__init__.__kwdefaults__["symbols"] = wide  # type: ignore[index]

if __name__ == "__main__":
    raise SystemExit(main())
