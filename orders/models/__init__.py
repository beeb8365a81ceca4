"""Store the book of orders. Import models from here, not from the modules of this package."""

from __future__ import annotations

from orders.models.breaks import BreakKind, ReconciliationBreak, Resolution
from orders.models.early_cancel import EarlyCancel
from orders.models.identity import BookIdentity
from orders.models.order import (
    EXTERNAL_PREFIX,
    RECOVERED_PREFIX,
    AttemptOutcome,
    EventType,
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    Status,
)
from orders.models.outbox import OrderNotice
from orders.models.positions import Position, PositionCursor, ResultSample
from orders.models.review import ReviewKind, ReviewRule
from orders.models.risk import PlacementOutage, RiskLimit, RiskLimitChange

__all__ = [
    "EXTERNAL_PREFIX",
    "RECOVERED_PREFIX",
    "AttemptOutcome",
    "BookIdentity",
    "BreakKind",
    "EarlyCancel",
    "EventType",
    "ExchangeOrder",
    "Fill",
    "Order",
    "OrderEvent",
    "OrderNotice",
    "PlacementOutage",
    "Position",
    "PositionCursor",
    "ReconciliationBreak",
    "Resolution",
    "ResultSample",
    "ReviewKind",
    "ReviewRule",
    "RiskLimit",
    "RiskLimitChange",
    "Status",
]
