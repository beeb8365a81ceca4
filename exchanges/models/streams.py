"""Store the state of each private stream."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges.models.accounts import ExchangeAccount


class StreamState(models.Model):
    """The state of an account's user data stream. Only its listener writes it."""

    account = models.OneToOneField(
        ExchangeAccount, on_delete=models.CASCADE, related_name="stream", verbose_name=_("account")
    )
    connected_since = models.DateTimeField(_("connected since"), null=True, blank=True)
    in_sync_since = models.DateTimeField(
        _("in sync since"),
        null=True,
        blank=True,
        help_text=_("When the stream was subscribed and everything missed was read over REST."),
    )
    alive_at = models.DateTimeField(
        _("alive at"), help_text=_("When the listener last reported that it was running.")
    )
    last_event_at = models.DateTimeField(_("last event at"), null=True, blank=True)
    lag_ms = models.PositiveIntegerField(
        _("lag, ms"),
        null=True,
        blank=True,
        help_text=_("From the exchange's time of the last event until its commit in our database."),
    )
    reason = models.TextField(
        _("reason"), blank=True, default="", help_text=_("Why the stream isn't connected.")
    )

    class Meta:
        verbose_name = _("user stream")
        verbose_name_plural = _("user streams")

    def __str__(self) -> str:
        state = "in sync" if self.in_sync_since else self.reason or "not in sync"
        return f"{self.account}: {state}"

    def is_healthy(self, now: datetime) -> bool:
        """Return whether the stream is in sync, and its listener has said so just now."""
        return self.in_sync_since is not None and self.is_alive(now)

    def is_alive(self, now: datetime) -> bool:
        """Return whether the listener has reported within the last seconds."""
        return now - self.alive_at < STREAM_ALIVE_WITHIN


STREAM_ALIVE_WITHIN = timedelta(seconds=15)
