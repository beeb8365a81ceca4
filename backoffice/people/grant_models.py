"""Grants: the accounts that a person or a role may see and act on."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.models import ExchangeAccount


class AccountGrant(models.Model):
    """One account for one person, or for all people in one role."""

    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.CASCADE,
        related_name="grants",
        verbose_name=_("account"),
        db_index=False,  # the unique keys begin with it
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="account_grants",
        verbose_name=_("person"),
    )
    role = models.ForeignKey(
        Group,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="account_grants",
        verbose_name=_("role"),
        help_text=_("Fill in either a person or a role."),
    )
    created_at = models.DateTimeField(_("created at"), default=clock.now, editable=False)

    class Meta:
        ordering = ("account", "role", "person")
        verbose_name = _("account grant")
        verbose_name_plural = _("account grants")
        permissions: ClassVar = [("all_accounts", _("Can see and act on every account"))]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(person__isnull=True) ^ Q(role__isnull=True),
                name="grant_to_a_person_or_a_role",
            ),
            models.UniqueConstraint(fields=["account", "person"], name="grant_once_to_a_person"),
            models.UniqueConstraint(fields=["account", "role"], name="grant_once_to_a_role"),
        ]

    def __str__(self) -> str:
        return f"{self.account}: {self.person or self.role}"

    def clean(self) -> None:
        if (self.person is None) == (self.role is None):
            raise ValidationError(_now("Fill in either a person or a role."))
