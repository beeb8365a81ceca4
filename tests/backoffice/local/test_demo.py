"""The demo fills its own empty database, and leaves every other one alone."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from pytest_django.fixtures import Settings

from backoffice.local import demo
from backoffice.local.demo import Refused
from backoffice.local.running import write_run_env
from backoffice.people.models import AccountGrant
from exchanges.models import Environment, ExchangeAccount, ScopedHalt
from orders.models import ReviewRule

NAMES = {"admin", "trader", "viewer"}
URL = "postgres://backoffice@:5432//demo/var/postgres/backoffice"


@pytest.fixture(autouse=True)
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the accounts whose instruments were asked for."""
    asked: list[str] = []
    monkeypatch.setattr(
        "exchanges.mirror.instruments.sync_instruments", lambda account: asked.append(account.name)
    )
    return asked


def passwords() -> dict[str, str]:
    return dict(User.objects.values_list("username", "password"))


@pytest.mark.django_db
def test_seed__fills_an_empty_database(tmp_path: Path, no_exchange: list[str]) -> None:
    demo.seed(tmp_path)
    users = {user.username: user for user in User.objects.all()}
    assert set(users) == NAMES
    assert {name for name, user in users.items() if user.is_superuser} == {"admin"}
    assert set(users["trader"].groups.values_list("name", flat=True)) == {"Trader"}
    assert set(users["viewer"].groups.values_list("name", flat=True)) == {"Viewer"}
    for login in demo.read_logins(tmp_path):
        assert users[login.name].is_staff
        assert users[login.name].check_password(login.password)
    environments = dict(ExchangeAccount.objects.values_list("name", "environment"))
    assert environments == dict.fromkeys(demo.ACCOUNTS, Environment.SIMULATOR)
    assert no_exchange == ["demo"], "all accounts have the same instruments"
    assert ScopedHalt.objects.get().strategy == demo.HALTED_STRATEGY
    assert ReviewRule.objects.get().account.name == demo.SAVINGS  # type: ignore[union-attr]
    assert (tmp_path / "demo_logins.json").stat().st_mode & 0o077 == 0


@pytest.mark.django_db
def test_seed__goes_on_with_what_people_have_made_of_it(tmp_path: Path) -> None:
    demo.seed(tmp_path)
    User.objects.create_user("eva")
    ExchangeAccount.objects.create(name="bot-1", environment=Environment.TESTNET)
    User.objects.filter(username="viewer").delete()
    ScopedHalt.objects.all().delete()
    AccountGrant.objects.filter(account__name=demo.MAKER, role__name="Viewer").delete()
    User.objects.filter(username="admin").update(password=make_password("changed by a person"))
    before = passwords()

    demo.seed(tmp_path)

    assert passwords() == before
    assert ExchangeAccount.objects.count() == len(demo.ACCOUNTS) + 1
    assert not ScopedHalt.objects.exists()
    granted = AccountGrant.objects.values_list("account__name", "role__name")
    assert set(granted) == {
        *product(demo.ACCOUNTS, ["Trader", "Viewer"]),
    } - {(demo.MAKER, "Viewer")}


@pytest.mark.django_db
def test_seed__adds_the_accounts_that_an_older_version_lacked(tmp_path: Path) -> None:
    demo.seed(tmp_path)
    AccountGrant.objects.exclude(account__name="demo").delete()
    ReviewRule.objects.all().delete()
    ScopedHalt.objects.all().delete()
    ExchangeAccount.objects.exclude(name="demo").delete()

    demo.seed(tmp_path)

    granted = AccountGrant.objects.values_list("account__name", "role__name")
    assert set(granted) == {*product(demo.ACCOUNTS, ["Trader", "Viewer"])}
    assert ReviewRule.objects.count() == ScopedHalt.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("has_file", [False, True])
@pytest.mark.parametrize("whose", ["user", "account"])
def test_seed__refuses_a_database_that_it_did_not_fill(
    tmp_path: Path, whose: str, has_file: bool
) -> None:
    if has_file:
        (tmp_path / "demo_logins.json").write_text(json.dumps(dict.fromkeys(NAMES, "secret")))
    if whose == "user":
        User.objects.create_user("eva", password="her own")
    else:
        ExchangeAccount.objects.create(name="bot-1", environment=Environment.LIVE)
    before = passwords()
    with pytest.raises(Refused, match="holds users or accounts that the demo did not make"):
        demo.seed(tmp_path)
    assert passwords() == before
    assert not ExchangeAccount.objects.filter(name="demo").exists()
    assert not AccountGrant.objects.exists()


@pytest.mark.django_db
def test_seed__without_its_file_changes_no_password_of_its_own_names(tmp_path: Path) -> None:
    demo.seed(tmp_path)
    before = passwords()
    (tmp_path / "demo_logins.json").unlink()
    with pytest.raises(Refused, match=r"put that file back, or move var/ away"):
        demo.seed(tmp_path)
    assert passwords() == before
    assert demo.read_logins(tmp_path) == []


@pytest.mark.django_db
def test_seed__that_was_killed_in_between_makes_the_same_logins(tmp_path: Path) -> None:
    logins = demo._new_logins(tmp_path)
    demo.seed(tmp_path)
    assert demo.read_logins(tmp_path) == logins
    for login in logins:
        assert User.objects.get(username=login.name).check_password(login.password)


def test_check_database__is_for_the_database_of_make_run_alone(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="only `make run` fills the demo's database"):
        demo.check_database(tmp_path, URL)
    write_run_env(tmp_path, {"DATABASE_URL": URL})
    demo.check_database(tmp_path, URL)
    for other in ("", "postgres://live.example/orders", URL + "2"):
        with pytest.raises(Refused, match="only `make run` fills"):
            demo.check_database(tmp_path, other)


@pytest.mark.parametrize("url", ["", "postgres://live.example/orders"])
def test_main__refuses_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: Settings,
    url: str,
) -> None:
    settings.VAR_DIR = tmp_path
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as end:
        demo.main()
    assert end.value.code == 78
    assert capsys.readouterr().out == (
        "only `make run` fills the demo's database: start that instead\n"
    )
