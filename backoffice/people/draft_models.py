"""Drafts: changes that wait for a second person, with their difference."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import ReviewKind


class DraftState(models.TextChoices):
    """The state of a draft. The database never holds `EXPIRED`: it follows from the time."""

    WAITING = "waiting", _("waits for a second person")
    PUBLISHED = "published", _("published")
    REJECTED = "rejected", _("rejected")
    EXPIRED = "expired", _("expired")
    OVERTAKEN = "overtaken", _("overtaken by another change")


class ChangeDraft(models.Model):
    """One change that takes effect when a second person publishes it.

    `seen` names the state of the record that the maker saw. If the record has another state by
    then, the difference is no longer true and the draft can't be published.
    """

    kind = models.CharField(_("kind of act"), max_length=16, choices=ReviewKind)
    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("account"),
    )  # empty: all accounts, or one that doesn't exist yet
    title = models.CharField(_("about"), max_length=255, blank=True, default="")
    subject = models.CharField(_("record"), max_length=200)
    act = models.CharField(max_length=16)  # resume, add, change or delete
    target = models.CharField(max_length=100)  # the label of the record's model
    target_key = models.CharField(max_length=64, blank=True, default="")
    proposed = models.JSONField(default=dict)
    seen = models.CharField(max_length=64, blank=True, default="")
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)
    reason = models.TextField(_("reason"))
    maker = models.CharField(_("made by"), max_length=150)
    made_at = models.DateTimeField(_("made at"), default=clock.now)
    expires_at = models.DateTimeField(_("expires at"))
    state = models.CharField(
        _("state"), max_length=16, choices=DraftState, default=DraftState.WAITING
    )
    checker = models.CharField(_("second person"), max_length=150, blank=True, default="")
    decided_at = models.DateTimeField(_("decided at"), null=True, blank=True)
    decision = models.TextField(_("reason of the second person"), blank=True, default="")

    class Meta:
        ordering = ("-id",)
        verbose_name = _("draft")
        verbose_name_plural = _("drafts")
        permissions: ClassVar = [("publish_changedraft", _("Can publish or reject drafts"))]
        indexes: ClassVar = [
            # The work queue on every page: WHERE state = 'waiting'
            models.Index(fields=["expires_at"], condition=Q(state="waiting"), name="draft_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.pk}: {self.get_kind_display()}, {self.shown}"

    @property
    def name(self) -> str:
        """Return the name of the draft in the journal."""
        return f"draft:{self.pk}"

    @property
    def shown(self) -> str:
        """Return the name of the record for people."""
        return self.title or self.subject

    @property
    def state_now(self) -> DraftState:
        """Return the state at this moment."""
        state = DraftState(self.state)
        if state == DraftState.WAITING and self.expires_at <= clock.now():
            return DraftState.EXPIRED
        return state
