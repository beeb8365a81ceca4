"""Fill the empty database of `make run`: three accounts, instruments and three logins."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backoffice.local import static_files
from backoffice.local.embedded import REFUSED
from backoffice.local.running import run_env

if TYPE_CHECKING:
    from exchanges.models import ExchangeAccount

ACCOUNT, MAKER, SAVINGS = "demo", "demo-maker", "demo-savings"
#: The first balances of each account, and its name at the simulator.
_BALANCES = {
    ACCOUNT: ("main", "USDT=100000,BTC=2,ETH=20,BNB=50,SOL=200,XRP=20000,DOGE=100000"),
    MAKER: ("maker", "USDT=50000,BTC=1,ETH=20"),
    SAVINGS: ("savings", "USDT=30000,BTC=0.5"),
}
ACCOUNTS = tuple(_BALANCES)
#: The market's past at the first start, so that charts show a line at once.
PAST_DAYS = "3"
#: Its strategy is halted, and its large orders wait for a second person.
HALTED_STRATEGY, LARGE = "reversal", "5000"


class Refused(Exception):
    """The database isn't the demo's own. The message names the way out."""


def _key(account: str) -> tuple[str, str]:
    """Return key and secret, for the simulator on this machine's loopback and nothing else."""
    return f"{account}-key", f"{account}-secret"


def exchange_variables(simulator_url: str) -> dict[str, str]:
    """Return the variables of all accounts. Each name begins with that of the first account."""
    found: dict[str, str] = {}
    for account in ACCOUNTS:
        prefix, (key, secret) = f"EXCHANGE_{account.upper().replace('-', '_')}", _key(account)
        found |= {
            f"{prefix}_API_KEY": key,
            f"{prefix}_API_SECRET": secret,
            f"{prefix}_API_SECRET_FILE": "",
            f"{prefix}_REST_URL": simulator_url,
            f"{prefix}_WS_URL": f"{simulator_url.replace('http', 'ws', 1)}/ws-api/v3",
        }
    return found


def simulator_argv(port: int, var: Path) -> list[str]:
    """Return the simulator's command.

    It keeps its orders in `var`, because an exchange without them would contradict our database.
    """
    program = [
        sys.executable,
        "-m",
        "exchanges.simulator",
        "--port",
        str(port),
        "--state",
        str(var / "simulator.state"),
        "--past-days",
        PAST_DAYS,
    ]
    key, secret = _key(ACCOUNT)
    name, balances = _BALANCES[ACCOUNT]
    program += ["--account", name, "--api-key", key, "--api-secret", secret]
    program += ["--balances", balances]
    for account in (MAKER, SAVINGS):
        name, balances = _BALANCES[account]
        program += ["--more-account", name, *_key(account), balances]
    return program


# -- Logins --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Login:
    name: str
    role: str | None  # its group, or None for a superuser
    may: str
    password: str


_ROLES = (
    ("admin", None, "may do everything"),
    ("trader", "Trader", "sees all, cancels orders, halts trading"),
    ("viewer", "Viewer", "sees all"),
)


def read_logins(var: Path) -> list[Login]:
    """Return the logins that the demo made in this `var/`, with the passwords of the first start.

    Before the first start there are none.
    """
    file = _logins_file(var)
    return _logins(json.loads(file.read_text())) if file.exists() else []


def _logins_file(var: Path) -> Path:
    return var / "demo_logins.json"


def _logins(passwords: dict[str, str]) -> list[Login]:
    return [Login(name, role, may, passwords[name]) for name, role, may in _ROLES]


def _new_logins(var: Path) -> list[Login]:
    """Make passwords for this `var/`, so that no two installations share one, and store them."""
    passwords = {name: f"{name}-{secrets.token_hex(4)}" for name, _, _ in _ROLES}
    file = _logins_file(var)
    draft = file.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(passwords))
    draft.replace(file)
    return _logins(passwords)


# -- The database --------------------------------------------------------------------------------


def seed(var: Path) -> None:
    """Fill an empty database. Keep all users and passwords of one that the demo filled before.

    Raise Refused if the database holds users or accounts that the demo did not make.
    """
    from exchanges.mirror.instruments import sync_instruments
    from exchanges.models import ExchangeAccount

    if not _is_filled(var):
        _add_users(var)
    _add_accounts()
    sync_instruments(ExchangeAccount.objects.get(name=ACCOUNT))


def _add_accounts() -> None:
    """Add the accounts that are missing, with their grants and rules, each once.

    So what people change or delete later stays as they made it.
    """
    from django.contrib.auth.models import Group

    from backoffice.people.models import AccountGrant
    from exchanges.models import Environment, ExchangeAccount

    roles = Group.objects.filter(name__in=[role for _, role, _ in _ROLES if role])
    for name in ACCOUNTS:
        account, is_new = ExchangeAccount.objects.get_or_create(
            name=name, defaults={"environment": Environment.SIMULATOR}
        )
        if not is_new:
            continue
        AccountGrant.objects.bulk_create(
            [AccountGrant(account=account, role=role) for role in roles]
        )
        if name == SAVINGS:
            _restrict_savings(account)


def _restrict_savings(account: ExchangeAccount) -> None:
    """Halt one strategy, and let a second person look at large orders."""
    from exchanges.acts import Origin, Source, acting
    from exchanges.scoped_halts import halt_scope
    from orders.models import ReviewRule

    with acting(lambda: Origin(Source.SHELL, "admin")):
        halt_scope(
            account=account,
            symbol="",
            strategy=HALTED_STRATEGY,
            reason="sells into a rising market, under review",
            actor="admin",
        )
    ReviewRule.objects.create(account=account, notional_above=LARGE)


def _is_filled(var: Path) -> bool:
    """Return whether the demo has filled this database, or raise Refused if it isn't the demo's."""
    from django.contrib.auth.models import User

    from exchanges.models import ExchangeAccount

    ours = [login.name for login in read_logins(var)]
    if ours and User.objects.filter(username__in=ours).exists():
        return True
    if User.objects.exists() or ExchangeAccount.objects.exists():
        raise Refused(
            "the database in var/postgres holds users or accounts that the demo did not make"
            " (var/demo_logins.json names none of them): put that file back, or move var/ away"
        )
    return False


def _add_users(var: Path) -> None:
    """Add all users or none, so that a killed run leaves the database empty."""
    from django.contrib.auth.models import Group, User
    from django.db import transaction

    with transaction.atomic():
        for login in read_logins(var) or _new_logins(var):
            user = User.objects.create_user(
                login.name,
                password=login.password,
                is_staff=True,
                is_superuser=login.role is None,
            )
            if login.role:
                user.groups.add(Group.objects.get(name=login.role))


def check_database(var: Path, url: str) -> None:
    """Raise Refused unless the running `make run` owns the database. Fill no other one."""
    file = run_env(var)
    if f"DATABASE_URL={url}" not in (file.read_text().splitlines() if file.exists() else ()):
        raise Refused("only `make run` fills the demo's database: start that instead")


def main() -> None:
    """Prepare everything in one process, because loading the code takes longer than the rest."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    try:
        check_database(settings.VAR_DIR, os.environ.get("DATABASE_URL", ""))
        call_command("migrate", interactive=False)
        static_files.gather(Path(settings.STATIC_ROOT))
        seed(settings.VAR_DIR)
    except Refused as refusal:
        print(refusal)
        sys.exit(REFUSED)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    main()
