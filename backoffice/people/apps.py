from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class PeopleConfig(AppConfig):
    name = "backoffice.people"
    label = "people"
    verbose_name = _("People")

    def ready(self) -> None:
        from django.contrib.auth.models import User
        from django.contrib.auth.signals import user_logged_in
        from django.db.models.signals import post_save

        from backoffice.people import (  # noqa: F401  the first registers its receivers
            checks,
            factors,
            logins,
            proofs,
            sessions,
            tasks,
        )
        from backoffice.people.journal.writing import write_entry
        from backoffice.people.models import JournalHead
        from backoffice.people.roles import setup_roles_after_migrate
        from exchanges import acts
        from exchanges.models import ExchangeAccount

        post_migrate.connect(setup_roles_after_migrate, dispatch_uid="roles")
        acts.install(write_entry, table=JournalHead._meta.db_table)  # noqa: SLF001
        user_logged_in.connect(sessions.begin_session)
        user_logged_in.connect(proofs.mark_proven)
        user_logged_in.connect(factors.note_factor_due)
        post_save.connect(factors.forget_live_accounts, sender=ExchangeAccount)
        post_save.connect(sessions.end_invalid_sessions, sender=User)
