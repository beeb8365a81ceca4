"""Sessions: how long they last, how they end, and what the table shows of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.test import Client

from backoffice.people.session_models import PersonSession
from backoffice.people.sessions import end_sessions, session_is_live, sessions_of

pytestmark = pytest.mark.django_db

MORNING = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
PASSWORD = "correct-horse-battery"


def person(name: str = "pat") -> User:
    return User.objects.create_user(name, password=PASSWORD, is_staff=True)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def key_of(client: Client) -> str:
    return client.cookies[django_settings.SESSION_COOKIE_NAME].value


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def test_session__says_where_it_comes_from_and_hides_its_key() -> None:
    person()
    client = Client(headers={"User-Agent": "Firefox"}, REMOTE_ADDR="192.0.2.7")
    client.post("/admin/login/", {"username": "pat", "password": PASSWORD})
    row = PersonSession.objects.get()
    assert (row.user_name, row.address, row.agent) == ("pat", "192.0.2.7", "Firefox")
    assert row.session_key != key_of(client)
    copied = Client()
    copied.cookies[django_settings.SESSION_COOKIE_NAME] = row.session_key
    assert not is_in(copied)  # a copy of the table opens nothing


def test_session__ends_eight_hours_after_it_began_however_busy() -> None:
    with time_machine.travel(MORNING, tick=False) as clock:
        client = signed_in(person())
        key = key_of(client)
        for _ in range(23):
            clock.shift(timedelta(minutes=20))
            assert is_in(client)
        assert session_is_live(key)
        clock.shift(timedelta(minutes=20))
        assert not session_is_live(key)
        assert not is_in(client)


def test_session__ends_after_half_an_hour_without_activity() -> None:
    with time_machine.travel(MORNING, tick=False) as clock:
        client = signed_in(person())
        key = key_of(client)
        clock.shift(timedelta(minutes=29))
        assert is_in(client)
        clock.shift(timedelta(minutes=29))
        assert session_is_live(key)
        clock.shift(timedelta(minutes=2))
        assert not session_is_live(key)
        assert not is_in(client)


@pytest.mark.parametrize("headers", [{"HX-Request": "true"}, {"Accept": "text/event-stream"}])
def test_session__isnt_kept_by_a_page_that_updates_itself(headers: dict[str, str]) -> None:
    with time_machine.travel(MORNING, tick=False) as clock:
        client = signed_in(person())
        for _ in range(4):
            clock.shift(timedelta(minutes=8))
            client.get("/admin/", headers=headers)
        assert not is_in(client)


def test_session_is_live__ends_with_the_row_the_password_and_the_account() -> None:
    user = person()
    ended, changed = signed_in(user), signed_in(user)
    other = signed_in(person("sam"))
    assert all(session_is_live(key_of(client)) for client in (ended, changed, other))
    assert not session_is_live("no-such-session")

    sessions_of(user).earliest("begun_at").delete()
    live = [session_is_live(key_of(client)) for client in (ended, changed, other)]
    assert sorted(live[:2]) == [False, True]
    assert live[2]

    user.set_password("another-long-password")
    user.save()
    assert not session_is_live(key_of(changed))
    assert not sessions_of(user).exists()

    User.objects.filter(username="sam").update(is_active=False)  # no signal sees it
    assert not session_is_live(key_of(other))


def test_password_change__ends_the_others_and_keeps_its_own() -> None:
    user = person()
    here, there = signed_in(user), signed_in(user)
    answer = here.post(
        "/admin/password_change/",
        {
            "old_password": PASSWORD,
            "new_password1": "quite-another-one-9",
            "new_password2": "quite-another-one-9",
        },
    )
    assert answer.status_code == 302
    assert is_in(here)
    assert not is_in(there)
    assert sessions_of(user).count() == 1


def test_end_sessions__cannot_be_undone_by_a_request_that_still_runs() -> None:
    user = person()
    client = signed_in(user)
    late = client.session
    assert late["_auth_user_id"]  # it has read the row
    assert end_sessions(user) == 1
    late["anything"] = 1
    with pytest.raises(UpdateError):
        late.save()
    assert not PersonSession.objects.exists()


def test_end_sessions__keeps_the_one_it_is_asked_to() -> None:
    user = person()
    here, there = signed_in(user), signed_in(user)
    assert end_sessions(user, but=key_of(here)) == 1
    assert is_in(here)
    assert not is_in(there)


def test_sign_in__forgets_the_sessions_that_ran_out() -> None:
    with time_machine.travel(MORNING, tick=False) as clock:
        signed_in(person())
        clock.shift(timedelta(hours=9))
        signed_in(person("sam"))
    assert [row.user_name for row in PersonSession.objects.all()] == ["sam"]
