"""Submit, place, record and cancel orders: the façade for tasks, commands, bots and the desk."""

from __future__ import annotations

from orders.placing.cancel import cancel_order, is_in_transaction, request_cancel
from orders.placing.cancel_many import cancel_orders, request_cancels
from orders.placing.early_cancels import remember_cancel
from orders.placing.lost import begin_epoch, declare_lost
from orders.placing.record import record_order
from orders.placing.submit import place_order, submit_order

__all__ = [
    "begin_epoch",
    "cancel_order",
    "cancel_orders",
    "declare_lost",
    "is_in_transaction",
    "place_order",
    "record_order",
    "remember_cancel",
    "request_cancel",
    "request_cancels",
    "submit_order",
]
