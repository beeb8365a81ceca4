"""What `make run` puts into an empty back office: the account `demo` on the simulator, instruments, three logins."""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "demo"
# Of the simulator on this machine's loopback; they open nothing else.
_API_KEY = "demo-key"
_API_SECRET = "demo-secret"  # noqa: S105  # nosec B105
_BALANCES = "USDT=100000,BTC=2,ETH=20,BNB=50,SOL=200,XRP=20000,DOGE=100000"


def exchange_variables(simulator_url: str) -> dict[str, str]:
    prefix = f"EXCHANGE_{ACCOUNT.upper()}"
    return {
        f"{prefix}_API_KEY": _API_KEY,
        f"{prefix}_API_SECRET": _API_SECRET,
        f"{prefix}_REST_URL": simulator_url,
        f"{prefix}_WS_URL": f"{simulator_url.replace('http', 'ws', 1)}/ws-api/v3",
    }


def simulator_argv(port: int, var: Path) -> list[str]:
    """It remembers its orders in `var`: an exchange that forgot them would contradict our database."""
    program = [
        sys.executable,
        "-m",
        "exchanges.simulator",
        "--port",
        str(port),
        "--state",
        str(var / "simulator.state"),
    ]
    return [*program, "--api-key", _API_KEY, "--api-secret", _API_SECRET, "--balances", _BALANCES]


# -- Logins --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Login:
    name: str
    role: str | None  # its group; None: a superuser
    may: str
    password: str


_ROLES = (
    ("admin", None, "may do everything"),
    ("trader", "Trader", "sees all, cancels orders, halts trading"),
    ("viewer", "Viewer", "sees all"),
)


def read_logins(var: Path) -> list[Login]:
    """The demo's logins; their passwords are made once for each `var/`, so that no two installations share one."""
    file = var / "demo_logins.json"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(json.dumps({name: f"{name}-{secrets.token_hex(4)}" for name, _, _ in _ROLES}))
    passwords = json.loads(file.read_text())
    return [Login(name, role, may, passwords[name]) for name, role, may in _ROLES]


def seed(var: Path) -> None:
    """Add what is missing; nothing that is there is changed, but for passwords that are no longer the printed ones."""
    from exchanges.models import Environment, ExchangeAccount
    from exchanges.services import sync_instruments
    from orders.management.commands.setup_roles import setup_roles

    account, _ = ExchangeAccount.objects.get_or_create(name=ACCOUNT, defaults={"environment": Environment.SIMULATOR})
    sync_instruments(account)
    setup_roles()
    for login in read_logins(var):
        _seed_login(login)


def _seed_login(login: Login) -> None:
    from django.contrib.auth.models import Group, User

    user, is_new = User.objects.get_or_create(
        username=login.name, defaults={"is_staff": True, "is_superuser": login.role is None}
    )
    if is_new and login.role:
        user.groups.add(Group.objects.get(name=login.role))
    if not user.check_password(login.password):
        user.set_password(login.password)
        user.save(update_fields=["password"])


def main() -> None:
    """Migrate and seed, in one process: loading everything takes longer than either."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    call_command("migrate", interactive=False)
    seed(settings.VAR_DIR)


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    main()
