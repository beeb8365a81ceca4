"""The second factor: when it is due, what it opens, and what the database keeps of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import serializers
from django.db import connection
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_otp_webauthn.models import WebAuthnCredential
from pytest_django.fixtures import Settings

from backoffice.people import factors
from backoffice.people.factor_models import Authenticator, RecoveryCodes
from backoffice.people.models import JournalEntry
from backoffice.people.sessions import session_is_live
from exchanges.models import Environment, ExchangeAccount
from tests.backoffice.people.test_sessions import key_of

pytestmark = pytest.mark.django_db

_LIVE = 'WHERE "exchanges_exchangeaccount"."environment" = '
MORNING = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock() -> Iterator[Any]:
    factors.forget_live_accounts(None)
    with time_machine.travel(MORNING, tick=False) as clock:
        yield clock
    factors.forget_live_accounts(None)


@pytest.fixture
def pat(db: None) -> User:
    return User.objects.create_superuser("pat", password="correct-horse-battery")


def code_of(app: Authenticator) -> str:
    """Return the code that the person's phone shows now."""
    return f"{totp(app.bin_key):06d}"


def signed_in(user: User) -> Client:
    """Return a client that has given the password only."""
    client = Client()
    client.force_login(user)
    return client


def with_app(user: User) -> Authenticator:
    app: Authenticator = Authenticator.objects.create(user=user, name="Phone")
    return app


def give(client: Client, code: str) -> Any:
    return client.post("/admin/second-factor/", {"code": code})


def is_in(client: Client) -> bool:
    return client.get("/admin/").status_code == 200


def live_account() -> ExchangeAccount:
    return ExchangeAccount.objects.create(name="real", environment=Environment.LIVE)


# -- When it is due --------------------------------------------------------------------------------


def test_factor__isnt_needed_without_a_live_account(pat: User, settings: Settings) -> None:
    settings.SECOND_FACTOR = "live"
    assert is_in(signed_in(pat))


def test_factor__is_needed_wherever_a_live_account_exists(pat: User, settings: Settings) -> None:
    settings.SECOND_FACTOR = "live"
    early = signed_in(pat)
    assert is_in(early)
    live_account()
    for client in (early, signed_in(pat)):
        sent = client.get("/admin/", follow=True)
        assert sent.redirect_chain[-1][0] == "/admin/my-sign-in/"
        assert "need a second factor here" in sent.content.decode()


@pytest.mark.parametrize(
    "address", ["/admin/", "/admin/orders/order/", "/admin/auth/user/", "/admin/password_change/"]
)
def test_held_back_person__is_nobody_to_every_page(pat: User, address: str) -> None:
    with_app(pat)
    client = signed_in(pat)
    for answer in (client.get(address), client.post(address)):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/admin/login/")
    waiting = client.get(client.get(address)["Location"])
    assert waiting["Location"].startswith("/admin/second-factor/?next=")


def test_held_back_person__cannot_change_the_factors(pat: User) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    for page in ("/admin/my-sign-in/", "/admin/my-sign-in/authenticator/"):
        for answer in (
            client.get(page),
            client.post(page, {"verb": "remove_authenticator", "key": app.pk}),
            client.post(page, {"verb": "new_codes"}),
            client.post(page, {"name": "mine", "code": "000000"}),
        ):
            assert answer["Location"] == "/admin/second-factor/"
    for step in ("begin", "complete"):
        refused = client.post(
            f"/admin/passkeys/register/{step}/", "{}", content_type="application/json"
        )
        assert refused.status_code == 403
    assert Authenticator.objects.get() == app
    assert not RecoveryCodes.objects.exists()


def test_factor__is_asked_of_who_has_one_also_where_it_is_optional(pat: User) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    assert not is_in(client)
    assert give(client, code_of(app)).status_code == 302
    assert is_in(client)


def test_factor__of_another_person_opens_nothing(pat: User) -> None:
    with_app(pat)
    other = with_app(User.objects.create_superuser("sam"))
    client = signed_in(pat)
    assert "not correct" in give(client, code_of(other)).content.decode()
    assert not is_in(client)


def test_factor__changes_the_key_of_the_session(pat: User) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    before = key_of(client)
    give(client, code_of(app))
    assert key_of(client) != before
    assert not session_is_live(before)
    assert session_is_live(key_of(client))


def test_factor__leads_to_the_page_that_was_asked_for_and_to_no_other_site(pat: User) -> None:
    app = with_app(pat)
    for wanted, target in (
        ("/admin/orders/order/", "/admin/orders/order/"),
        ("https://evil.example/", "/admin/"),
        ("//evil.example/", "/admin/"),
    ):
        Authenticator.objects.update(last_t=-1)
        client = signed_in(pat)
        answer = client.post(f"/admin/second-factor/?next={wanted}", {"code": code_of(app)})
        assert answer["Location"] == target


def test_held_back_person__can_leave(pat: User) -> None:
    with_app(pat)
    client = signed_in(pat)
    assert client.get("/admin/second-factor/leave/").status_code == 405
    key = key_of(client)
    assert client.post("/admin/second-factor/leave/")["Location"] == "/admin/login/"
    assert not session_is_live(key)
    assert client.get("/admin/login/").status_code == 200
    assert JournalEntry.objects.filter(verb="logout", person="pat").exists()


# -- Guessing --------------------------------------------------------------------------------------


def test_code__works_once(pat: User) -> None:
    app = with_app(pat)
    code = code_of(app)
    assert give(signed_in(pat), code).status_code == 302
    assert "not correct" in give(signed_in(pat), code).content.decode()


def test_code__is_refused_after_five_failures_also_if_it_is_right(pat: User, clock: Any) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    for _ in range(5):
        assert give(client, "000000").status_code == 200
        clock.shift(timedelta(seconds=40))  # the library's own pause after a failure
    refused = give(client, code_of(app))
    assert refused.status_code == 429
    assert "Too many attempts" in refused.content.decode()
    verbs = list(JournalEntry.objects.values_list("verb", flat=True))
    assert verbs.count("fail_login") == 5
    assert verbs.count("lock_out") == 1


def test_code__counts_failures_of_all_sessions_together(pat: User, clock: Any) -> None:
    app = with_app(pat)
    for _ in range(5):
        give(signed_in(pat), "000000")
        clock.shift(timedelta(seconds=40))
    assert give(signed_in(pat), code_of(app)).status_code == 429


# -- The tables ------------------------------------------------------------------------------------


def test_database__holds_neither_seed_nor_codes_and_logs_show_none(
    pat: User, capfd: pytest.CaptureFixture[str]
) -> None:
    client = signed_in(pat)
    page = client.get("/admin/my-sign-in/authenticator/").content.decode()
    found = re.search(r'class="people-seed">([A-Z2-7 ]+)<', page)
    assert found
    seed = found[1].replace(" ", "")
    draft = Authenticator(user=pat, key=client.session["pending_authenticator"])
    done = client.post(
        "/admin/my-sign-in/authenticator/", {"name": "Phone", "code": code_of(draft)}
    ).content.decode()
    codes = re.findall(r"<li><code>([a-z0-9]{5}-[a-z0-9]{5})</code>", done)
    assert len(set(codes)) == 10
    app = Authenticator.objects.get()
    kept = serializers.serialize(
        "json",
        [*TOTPDevice.objects.all(), *StaticDevice.objects.all(), *_tokens(), *_sessions(client)],
    )
    kept += "".join(capfd.readouterr())
    for secret in (seed, app.bin_key.hex(), *codes, *(code.replace("-", "") for code in codes)):
        assert secret not in kept
    again = client.get("/admin/my-sign-in/").content.decode()
    assert seed not in again
    assert "10 codes are left." in again
    assert not any(code in again for code in codes)
    assert seed not in str(JournalEntry.objects.values_list("before", "after", "subject"))


def _tokens() -> list[Any]:
    return [token for device in StaticDevice.objects.all() for token in device.token_set.all()]


def _sessions(client: Client) -> list[Any]:
    from backoffice.people.models import PersonSession

    return list(PersonSession.objects.all())


def test_database__of_another_key_knows_no_code(pat: User, settings: Settings) -> None:
    app = with_app(pat)
    code = code_of(app)
    codes = factors.new_recovery_codes(pat)
    settings.SECOND_FACTOR_KEY = "another"
    assert "not correct" in give(signed_in(pat), code).content.decode()
    assert "not correct" in give(signed_in(pat), codes[0]).content.decode()


def test_stored_text__is_no_recovery_code(pat: User) -> None:
    with_app(pat)
    factors.new_recovery_codes(pat)
    stolen = _tokens()[0].token
    assert "not correct" in give(signed_in(pat), stolen).content.decode()


def test_new_recovery_codes__keep_the_session_that_a_code_opened(pat: User) -> None:
    with_app(pat)
    old = factors.new_recovery_codes(pat)
    client = signed_in(pat)
    give(client, old[0])
    shown = client.post("/admin/my-sign-in/", {"verb": "new_codes"}).content.decode()
    assert shown.count("<li><code>") == 10
    assert is_in(client)
    assert factors.codes_left(pat) == 10
    assert "not correct" in give(signed_in(pat), old[1]).content.decode()


def test_recovery_code__opens_once_and_is_journaled(pat: User) -> None:
    with_app(pat)
    code = factors.new_recovery_codes(pat)[0]
    client = signed_in(pat)
    assert give(client, f" {code.upper()} ").status_code == 302
    assert is_in(client)
    assert JournalEntry.objects.filter(verb="use_recovery_code", person="pat").exists()
    assert factors.codes_left(pat) == 9
    assert "not correct" in give(signed_in(pat), code).content.decode()


def test_admin__has_no_pages_of_the_librarys_tables(pat: User) -> None:
    client = signed_in(pat)
    for model in ("otp_totp/totpdevice", "otp_static/staticdevice"):
        assert client.get(f"/admin/{model}/").status_code == 404


# -- Managing one's own ----------------------------------------------------------------------------


def test_first_factor__lets_in_and_ends_the_other_sessions(pat: User, settings: Settings) -> None:
    settings.SECOND_FACTOR = "live"
    live_account()
    thief, client = signed_in(pat), signed_in(pat)
    client.get("/admin/my-sign-in/authenticator/")
    draft = Authenticator(user=pat, key=client.session["pending_authenticator"])
    wrong = client.post("/admin/my-sign-in/authenticator/", {"name": "Phone", "code": "000000"})
    assert "not correct" in wrong.content.decode()
    assert not Authenticator.objects.exists()
    assert not is_in(client)
    client.post("/admin/my-sign-in/authenticator/", {"name": "Phone", "code": code_of(draft)})
    assert is_in(client)
    assert not session_is_live(key_of(thief))
    assert JournalEntry.objects.filter(verb="add_authenticator", person="pat").exists()


def test_last_factor__stays_where_it_is_required(pat: User, settings: Settings) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    give(client, code_of(app))
    settings.SECOND_FACTOR = "always"
    form = {"verb": "remove_authenticator", "key": app.pk}
    assert (
        "Add another one first"
        in client.post("/admin/my-sign-in/", form, follow=True).content.decode()
    )
    assert Authenticator.objects.exists()
    settings.SECOND_FACTOR = "optional"
    client.post("/admin/my-sign-in/", form)
    assert not Authenticator.objects.exists()
    assert is_in(client)


def test_removing__asks_for_the_factor_and_takes_no_password(pat: User, clock: Any) -> None:
    app = with_app(pat)
    client = signed_in(pat)
    give(client, code_of(app))
    clock.shift(timedelta(minutes=6))
    form = {"verb": "remove_authenticator", "key": app.pk}
    asked = client.post("/admin/my-sign-in/", form).content.decode()
    assert "Code of your authenticator app" in asked
    again = {**form, "step_up_asked_by": "POST"}
    client.post("/admin/my-sign-in/", {**again, "step_up_answer": "correct-horse-battery"})
    assert Authenticator.objects.exists()
    clock.shift(timedelta(seconds=40))
    client.post("/admin/my-sign-in/", {**again, "step_up_answer": code_of(app)})
    assert not Authenticator.objects.exists()


def test_removing__touches_only_ones_own(pat: User) -> None:
    other = with_app(User.objects.create_superuser("sam"))
    signed_in(pat).post("/admin/my-sign-in/", {"verb": "remove_authenticator", "key": other.pk})
    assert Authenticator.objects.get() == other


def test_own_sessions__are_shown_and_end(pat: User) -> None:
    here, there, third = signed_in(pat), signed_in(pat), signed_in(pat)
    stranger = signed_in(User.objects.create_superuser("sam"))
    page = here.get("/admin/my-sign-in/").content.decode()
    assert page.count("last active") == 3
    assert key_of(there) not in page
    keys = re.findall(r'name="key" value="([0-9a-f]{40})"', page)
    assert len(keys) == 2
    here.post("/admin/my-sign-in/", {"verb": "end_session", "key": keys[0]})
    assert sorted([is_in(there), is_in(third)]) == [False, True]
    here.post("/admin/my-sign-in/", {"verb": "end_others"})
    assert [is_in(each) for each in (here, there, third, stranger)] == [True, False, False, True]


def test_own_sessions__hold_no_way_to_those_of_others(pat: User) -> None:
    from backoffice.people.session_store import hashed

    stranger = signed_in(User.objects.create_superuser("sam"))
    key = hashed(key_of(stranger))
    signed_in(pat).post("/admin/my-sign-in/", {"verb": "end_session", "key": key})
    assert is_in(stranger)


# -- Administrators --------------------------------------------------------------------------------


def test_administrator__ends_the_sessions_of_others(pat: User) -> None:
    boss = signed_in(User.objects.create_superuser("boss"))
    client = signed_in(pat)
    page = boss.get("/admin/people/personsession/").content.decode()
    assert key_of(client) not in page
    rows = re.findall(r'name="_selected_action" value="([0-9a-f]{40})"', page)
    assert len(rows) == 2
    assert page.count("2026-11-30 08:00 UTC") == 4
    chosen = {"action": "end_selected", "_selected_action": rows}
    clerk = User.objects.create_user("clerk", is_staff=True)
    assert signed_in(clerk).post("/admin/people/personsession/", chosen).status_code == 403
    assert is_in(client)
    boss.post("/admin/people/personsession/", chosen)
    assert not is_in(client)
    assert JournalEntry.objects.filter(verb="end_sessions", subject="user:pat").exists()


def test_administrator__resets_a_lost_factor(pat: User) -> None:
    with_app(pat)
    factors.new_recovery_codes(pat)
    WebAuthnCredential.objects.create(user=pat, name="key", credential_id=b"1", public_key=b"2")
    waiting = signed_in(pat)
    boss = signed_in(User.objects.create_superuser("boss"))
    address = f"/admin/auth/user/{pat.pk}/reset-factor/"
    assert "Remove all authenticator apps" in boss.get(address).content.decode()
    assert factors.has_factor(pat)
    boss.post(address, {"confirmed": "yes"})
    assert not factors.has_factor(pat)
    assert factors.codes_left(pat) == 0
    assert not session_is_live(key_of(waiting))
    assert is_in(signed_in(pat))


def test_reset__of_a_superuser_needs_a_superuser(pat: User) -> None:
    from django.contrib.auth.models import Permission

    with_app(pat)
    clerk = User.objects.create_user("clerk", is_staff=True)
    clerk.user_permissions.set(Permission.objects.filter(codename__in=["change_user", "view_user"]))
    answer = signed_in(clerk).post(f"/admin/auth/user/{pat.pk}/reset-factor/", {"confirmed": "yes"})
    assert answer.status_code == 403
    assert factors.has_factor(pat)


# -- Its cost --------------------------------------------------------------------------------------


def test_page__asks_for_live_accounts_once_in_ten_seconds(
    pat: User, settings: Settings, clock: Any
) -> None:
    settings.SECOND_FACTOR = "live"
    client = signed_in(pat)

    def questions() -> int:
        with _noted() as asked:
            assert is_in(client)
        return sum(_LIVE in text for text in asked)

    first = questions()
    assert questions() == first - 1
    assert first >= 1


def _noted() -> Any:
    from contextlib import contextmanager

    @contextmanager
    def noted() -> Iterator[list[str]]:
        asked: list[str] = []

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            asked.append(f"{sql} {params}")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            yield asked

    return noted()
