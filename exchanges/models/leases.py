"""Store leases of shared work, and the people who took one away."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock


class Lease(models.Model):
    """The worker that does a piece of shared work now, so that overlapping runs do it once."""

    name = models.CharField(_("work"), max_length=128, primary_key=True)
    holder = models.CharField(_("holder"), max_length=64, blank=True, default="")
    expires_at = models.DateTimeField(_("held until"))

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")
        permissions: ClassVar = [("release_lease", _("Can release and hold leases"))]

    def __str__(self) -> str:
        return self.name


class LeaseChange(models.Model):
    """A person took a lease away from its holder: who, why and when. Append-only."""

    name = models.CharField(_("work"), max_length=128)
    holder = models.CharField(_("holder before"), max_length=64, blank=True, default="")
    seconds = models.FloatField(
        _("held for seconds"), null=True, help_text=_("Empty if the lease was released.")
    )
    reason = models.TextField(_("reason"))
    actor = models.CharField(_("actor"), max_length=150)
    at = models.DateTimeField(_("at"), default=clock.now)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("lease change")
        verbose_name_plural = _("lease changes")

    def __str__(self) -> str:
        return f"{self.name}: {self.actor}"
