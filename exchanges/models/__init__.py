"""Store accounts, and our copy of the exchange's data. Import models from here, not from below."""

from __future__ import annotations

from exchanges.models.accounts import AccountSync, Environment, ExchangeAccount, TradingState
from exchanges.models.duties import DutyRun
from exchanges.models.halts import ScopedHalt, TradingHalt
from exchanges.models.instruments import (
    Instrument,
    LastPrice,
    MidPrice,
    SymbolCatchUp,
    instrument_rules,
)
from exchanges.models.leases import Lease, LeaseChange
from exchanges.models.limits import CALL_KIND_LABELS, BreakerChange, BreakerHold, RateLimits
from exchanges.models.money import Balance, Reservation
from exchanges.models.streams import STREAM_ALIVE_WITHIN, StreamState

__all__ = [
    "CALL_KIND_LABELS",
    "STREAM_ALIVE_WITHIN",
    "AccountSync",
    "Balance",
    "BreakerChange",
    "BreakerHold",
    "DutyRun",
    "Environment",
    "ExchangeAccount",
    "Instrument",
    "LastPrice",
    "Lease",
    "LeaseChange",
    "MidPrice",
    "RateLimits",
    "Reservation",
    "ScopedHalt",
    "StreamState",
    "SymbolCatchUp",
    "TradingHalt",
    "TradingState",
    "instrument_rules",
]
