"""Keep sessions in `PersonSession`. `SESSION_ENGINE` names this module."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db.models import QuerySet
from django.utils import timezone

from backoffice.people.session_models import PersonSession

BEGUN, ADDRESS, AGENT = "begun_at", "address", "agent"


def hashed(key: str) -> str:
    """Return the name of a session in the table. It is shorter than the column's 40 characters."""
    return sha256(key.encode()).hexdigest()[:40]


def live_rows() -> QuerySet[PersonSession]:
    """Return the sessions that are neither too old nor idle for too long."""
    now = timezone.now()
    idle = timedelta(seconds=settings.SESSION_IDLE_SECONDS)
    return PersonSession.objects.filter(expire_date__gt=now, seen_at__gt=now - idle)


class SessionStore(DatabaseStore):
    """Django's own store, except that it knows rows by the hash of their key."""

    #: The row as it was read, so that noting activity needs no further query.
    row: PersonSession | None = None

    @classmethod
    def get_model_class(cls) -> type[PersonSession]:
        return PersonSession

    def _get_session_from_db(self) -> PersonSession | None:
        return self._found(live_rows().filter(session_key=hashed(self.session_key or "")).first())

    async def _aget_session_from_db(self) -> PersonSession | None:
        rows = live_rows().filter(session_key=hashed(self.session_key or ""))
        return self._found(await rows.afirst())

    def _found(self, row: PersonSession | None) -> PersonSession | None:
        self.row = row
        if row is None:
            self._session_key = None
        return row

    def exists(self, session_key: str) -> bool:
        return super().exists(hashed(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(hashed(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> PersonSession:
        return _filled(super().create_model_instance(data), data)

    async def acreate_model_instance(self, data: dict[str, Any]) -> PersonSession:
        return _filled(await super().acreate_model_instance(data), data)

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            PersonSession.objects.filter(session_key=hashed(key)).delete()

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await PersonSession.objects.filter(session_key=hashed(key)).adelete()


def _filled(row: Any, data: dict[str, Any]) -> PersonSession:
    assert isinstance(row, PersonSession)
    row.session_key = hashed(row.session_key)
    row.user_id = int(data[SESSION_KEY]) if SESSION_KEY in data else None
    row.begun_at = datetime.fromisoformat(data[BEGUN]) if BEGUN in data else timezone.now()
    row.address, row.agent = data.get(ADDRESS, ""), data.get(AGENT, "")
    return row
