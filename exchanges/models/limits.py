"""Store the exchange's limits, and who held a breaker."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.models.accounts import Environment, ExchangeAccount
from exchanges.types import CallKind

CALL_KIND_LABELS = {
    CallKind.PLACE.value: _("placing"),
    CallKind.CANCEL.value: _("canceling"),
    CallKind.READ.value: _("reading"),
}


class BreakerHold(models.TextChoices):
    """The ways in which a person may hold a circuit breaker."""

    OPEN = "open", _("held open: such requests are not sent")
    CLOSED = "closed", _("held closed: requests are sent despite failures")
    NONE = "auto", _("automatic")


class BreakerChange(models.Model):
    """A person forced a circuit breaker, or let it go again: who, why and when. Append-only.

    The hold itself lives in Redis with the breaker. If Redis loses its data, the breaker decides by
    itself again.
    """

    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.PROTECT,
        related_name="breaker_changes",
        verbose_name=_("account"),
    )
    kind = models.CharField(_("kind of call"), max_length=8, choices=CALL_KIND_LABELS)
    state = models.CharField(_("state"), max_length=8, choices=BreakerHold)
    reason = models.TextField(_("reason"))
    actor = models.CharField(_("actor"), max_length=150)
    at = models.DateTimeField(_("at"), default=clock.now)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("circuit breaker change")
        verbose_name_plural = _("circuit breaker changes")

    def __str__(self) -> str:
        return f"{self.account} {self.kind}: {self.state}"


class RateLimits(models.Model):
    """exchangeInfo's `rateLimits` of one environment: the sizes of the shared budgets."""

    exchange = models.CharField(_("exchange"), max_length=32)
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    rate_limits = models.JSONField(_("rate limits"), default=list)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        verbose_name = _("rate limits")
        verbose_name_plural = _("rate limits")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["exchange", "environment"], name="rate_limits_unique_environment"
            )
        ]

    def __str__(self) -> str:
        return f"{self.exchange} {self.environment}"
