"""The journal of acts: one append-only chain, and the row that holds its end."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from backoffice.people.draft_models import ChangeDraft
from backoffice.people.factor_models import Authenticator, RecoveryCodes
from backoffice.people.grant_models import AccountGrant
from backoffice.people.login_models import LinkedLogin
from backoffice.people.session_models import PersonSession
from backoffice.people.throttle_models import AttemptCount
from exchanges.acts import Source

__all__ = [
    "AccountGrant",
    "AttemptCount",
    "Authenticator",
    "ChangeDraft",
    "JournalEntry",
    "JournalHead",
    "LinkedLogin",
    "PersonSession",
    "RecoveryCodes",
]


def _source_labels() -> list[tuple[str, object]]:
    return [
        (Source.DESK.value, _("desk")),
        (Source.SHELL.value, _("shell")),
        (Source.MESSAGE.value, _("message")),
        (Source.RULE.value, _("rule")),
        (Source.EXCHANGE.value, _("exchange")),
    ]


class JournalEntry(models.Model):
    """One act of a person, a rule or the exchange. Triggers refuse any change to a row.

    The number is the position in the chain, without gaps. Each hash covers the row and the hash of
    the row before.
    """

    id = models.PositiveBigIntegerField(_("number"), primary_key=True)
    at = models.DateTimeField(_("at"))
    source = models.CharField(_("source"), max_length=16, choices=_source_labels())
    person = models.CharField(_("person"), max_length=150)
    address = models.CharField(_("address"), max_length=64, blank=True, default="")
    session = models.CharField(_("session"), max_length=16, blank=True, default="")
    verb = models.CharField(_("verb"), max_length=64)
    account = models.CharField(_("account"), max_length=64, blank=True, default="")
    subject = models.CharField(_("record"), max_length=200)
    touched = models.JSONField(_("records touched"), default=list)
    reason = models.TextField(_("reason"), blank=True, default="")
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)
    previous_hash = models.CharField(_("previous hash"), max_length=64)
    hash = models.CharField(_("hash"), max_length=64)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("journal entry")
        verbose_name_plural = _("journal")
        indexes: ClassVar = [
            # "Who touched this": WHERE touched @> '["order:…"]'
            GinIndex(fields=["touched"], name="journal_touched", opclasses=["jsonb_path_ops"]),
            # The list's search: WHERE person = ? ORDER BY id DESC, and the same by verb and time.
            models.Index(fields=["person", "-id"], name="journal_person"),
            models.Index(fields=["verb", "-id"], name="journal_verb"),
            models.Index(fields=["at"], name="journal_at"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.person}: {self.verb} {self.subject}"


class JournalHead(models.Model):
    """The end of the chain: one row. Its lock puts the acts into one order."""

    ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ROW)
    position = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        verbose_name = _("end of the journal")
        verbose_name_plural = _("end of the journal")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(id=1), name="journal_head_is_one_row")
        ]

    def __str__(self) -> str:
        return f"{self.position} {self.hash}"
