"""One table."""

from __future__ import annotations

from django.db import models


class NaiveOrder(models.Model):
    intent_id = models.CharField(max_length=64, unique=True)
    symbol = models.CharField(max_length=32)
    side = models.CharField(max_length=4)
    order_type = models.CharField(max_length=32)
    quantity = models.DecimalField(max_digits=30, decimal_places=12)
    price = models.DecimalField(max_digits=30, decimal_places=12, null=True)
    status = models.CharField(max_length=16, default="CREATED")
    exchange_order_id = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "naive"

    def __str__(self) -> str:
        return self.intent_id
