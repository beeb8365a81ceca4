"""Store a person's session: it says where it comes from, and it ends by being deleted."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class PersonSession(AbstractBaseSession):
    """A session of Django, under the hash of its key: a copy of the table opens no session."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("person"),
        null=True,
        on_delete=models.CASCADE,
        related_name="+",
    )
    begun_at = models.DateTimeField(_("signed in"), default=timezone.now)
    seen_at = models.DateTimeField(_("last active"), default=timezone.now)
    address = models.CharField(_("address"), max_length=64, blank=True)
    agent = models.CharField(_("browser"), max_length=200, blank=True)

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        default_permissions = ("view",)
        permissions = (("end_sessions", "Can end the sessions of other people"),)

    def __str__(self) -> str:
        return f"{self.user_name} {self.address}"

    @property
    def user_name(self) -> str:
        return self.user.get_username() if isinstance(self.user, User) else ""

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from backoffice.people.session_store import SessionStore

        return SessionStore
