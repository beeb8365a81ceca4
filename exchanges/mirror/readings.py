"""Report the rows that a reading of the exchange set apart to `orders`, which keeps the breaks."""

from __future__ import annotations

from django.dispatch import Signal

# Sent with `account`, `reader` (the exchange's name of the list) and `unreadable` (those rows).
was_read = Signal()
