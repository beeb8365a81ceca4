"""Store messages to bots until they are sent."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from exchanges import clock
from orders.models.order import Order


class OrderNotice(models.Model):
    """One change of an order to notify bots of. `notifications.outbox` sends and deletes it."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="notices")
    version = models.PositiveIntegerField()
    details = models.JSONField()  # the order after the change
    written_at = models.DateTimeField(default=clock.now)
    claimed_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            # outbox.sweep: WHERE sent_at IS NULL ORDER BY id
            models.Index(fields=["id"], name="notice_unsent", condition=Q(sent_at__isnull=True)),
            # outbox.sweep: WHERE sent_at < ?
            models.Index(
                fields=["sent_at"], name="notice_sent", condition=Q(sent_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.version}"
