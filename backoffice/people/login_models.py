"""Logins of one human being, so that a second login can't check the acts of the first."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _


class LinkedLogin(models.Model):
    """A login, and the name of the human being behind it. Logins with the same name are one."""

    login = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="linked_login",
        verbose_name=_("login"),
    )
    human = models.CharField(
        _("human being"),
        max_length=150,
        help_text=_("Give all logins of one human being the same name here."),
    )

    class Meta:
        ordering = ("human", "login")
        verbose_name = _("linked login")
        verbose_name_plural = _("linked logins")

    def __str__(self) -> str:
        return f"{self.login}: {self.human}"
