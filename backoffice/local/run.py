"""Run the whole back office in the foreground on embedded parts: `make run`.

The demo lives in `var/` alone. It starts its own PostgreSQL and its own Redis-compatible server
there, and ignores every database, broker and Redis that the environment or `.env` names.

Each program has its log in `var/log/`. A program that ends is named and started again. If it keeps
ending, the stack ends with exit status 1. SIGINT or SIGTERM stops everything. On Linux no child
outlives the supervisor, even if that is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import environ

from backoffice.local import demo, running
from backoffice.local.embedded import (
    HOST,
    RedisServer,
    StartFailed,
    free_port,
    port_is_taken,
    redis_answers,
)
from backoffice.local.postgres import PostgresServer
from backoffice.local.supervisor import Child, Stopped, Supervisor
from backoffice.secret_key import private_folder

ROOT = Path(__file__).resolve().parent.parent.parent
VAR = ROOT / "var"
LOGS = VAR / "log"
#: Variables that would lead to a foreign database or Redis. libpq reads all that start with PG.
NOT_OURS = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "PG")

#: Threads of one process keep one core busy at most, so two place orders. On two cores, two of four
#: threads place a third more orders a second than one of eight.
WORKERS = 2
WORKER_OPTIONS = ("--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle")
#: A third does the rest. Its tasks wait for the exchange, so it has enough threads that a slow
#: comparison never holds up a cancel or a duty.
OTHER_WORKER_OPTIONS = ("--queues", "cancel,duties,sync", *WORKER_OPTIONS, "--concurrency", "12")


# -- The stack -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Addresses:
    web: int
    simulator: int
    redis: int

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web}"

    @property
    def simulator_url(self) -> str:
        return f"http://{HOST}:{self.simulator}"

    @property
    def redis_url(self) -> str:
        return f"redis://{HOST}:{self.redis}/0"


def read_addresses(env: Mapping[str, str]) -> Addresses:
    """Return the addresses to listen on. Raise StartFailed, which names the variable to change."""
    web, simulator = _port(env, "PORT", 8000), _port(env, "SIMULATOR_PORT", 9080)
    if web == simulator:
        raise StartFailed(
            f"PORT and SIMULATOR_PORT are both {web}: set one of them to another port"
        )
    for name, port in (("PORT", web), ("SIMULATOR_PORT", simulator)):
        if port_is_taken(port):
            raise StartFailed(
                f"port {port} is taken by another program: choose another with {name}, say"
                f" `make run {name}={free_port()}`"
            )
    return Addresses(web, simulator, free_port())


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StartFailed(f"{name} must be a port number from 1 to 65535, not {text!r}")
    return int(text)


def stack_env(addresses: Addresses, database_url: str) -> dict[str, str]:
    """Return the variables by which the children and another terminal find each other."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": addresses.redis_url,
        "CELERY_BROKER_URL": "",  # REDIS_URL, even if `.env` names another
        "CELERY_RESULT_BACKEND": "",
        "PGHOSTADDR": "",  # would win over the socket
        **demo.exchange_variables(addresses.simulator_url),
    }


def own_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a `.env` for production lacks.

    The demo needs real workers, and pages at its own address.
    """
    hosts = [env.get("ALLOWED_HOSTS", ""), "localhost", HOST, "[::1]"]
    return {
        "ALLOWED_HOSTS": ",".join(filter(None, hosts)),
        "CELERY_TASK_ALWAYS_EAGER": "off",
        "DEMO_TOUR": "on",
        "LOG_JSON": "off",
        "METRICS_OPEN": "on",
        "PLAIN_HTTP": "on",
        "SECURE_SSL": "off",
        "STATIC_COLLECTED": "on",
    }


def start(supervisor: Supervisor, addresses: Addresses, postgres: PostgresServer) -> None:
    """Start everything in its order, and return when the back office is ready."""
    python, manage = sys.executable, [sys.executable, "manage.py"]
    celery = [python, "-m", "celery", "-A", "backoffice"]
    _start_servers(supervisor, addresses, postgres)
    supervisor.run_once("prepare", [python, "-m", "backoffice.local.demo"])
    uvicorn = [
        python,
        "-m",
        "uvicorn",
        "backoffice.asgi:application",
        "--host",
        HOST,
        "--port",
        str(addresses.web),
    ]
    for name in (f"worker-{number + 1}" for number in range(WORKERS)):
        options = ("--queues", "trading", *WORKER_OPTIONS)
        supervisor.add(Child(name, [*celery, "worker", "--hostname", f"{name}@%h", *options]))
    name = f"worker-{WORKERS + 1}"
    supervisor.add(
        Child(name, [*celery, "worker", "--hostname", f"{name}@%h", *OTHER_WORKER_OPTIONS])
    )
    supervisor.add(
        Child(
            "web",
            [
                *uvicorn,
                "--timeout-graceful-shutdown",
                "2",
                "--no-access-log",
                "--no-proxy-headers",
                "--lifespan",
                "off",
            ],
        )
    )
    supervisor.add(Child("beat", [*celery, "beat"]))
    supervisor.add(Child("listener", [*manage, "listen_user_stream"]))
    supervisor.wait_for(
        lambda: _answers(f"{addresses.web_url}/readyz"), f"{addresses.web_url}/readyz"
    )
    supervisor.add(Child("orchestrator", [python, "examples/orchestrator.py"]))
    habits = [python, "-m", "backoffice.local.habits", addresses.simulator_url]
    supervisor.add(Child("habits", habits))


def _start_servers(supervisor: Supervisor, addresses: Addresses, postgres: PostgresServer) -> None:
    redis = RedisServer(VAR / "redis", port=addresses.redis, keep_data=True)
    redis.directory.mkdir(parents=True, exist_ok=True)
    supervisor.add_server(
        Child(
            "postgres",
            postgres.argv(signal.SIGINT),
            user=postgres.spawn_user,
            stop_signal=signal.SIGINT,  # SIGTERM would wait for its clients
        ),
        postgres.answers,
        "PostgreSQL",
    )
    postgres.create_database()
    supervisor.add_server(
        Child("redis", redis.argv()),
        lambda: redis_answers(HOST, redis.port),
        "the Redis-compatible server",
    )
    supervisor.add_server(
        Child("simulator", demo.simulator_argv(addresses.simulator, VAR)),
        lambda: _answers(f"{addresses.simulator_url}/api/v3/ping"),
        "the exchange simulator",
    )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  our own # nosec B310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


SEND_ORDERS = (
    f".venv/bin/python manage.py send_orders examples/orders.csv --account {demo.ACCOUNT} --wait"
)


def welcome(addresses: Addresses, seconds: float) -> str:
    logins = "\n".join(
        f"    {login.name:<8} {login.password:<16} {login.may}" for login in demo.read_logins(VAR)
    )
    return f"""
The back office is ready ({seconds:.0f} s).

  Admin      {addresses.web_url}/admin/
{logins}
  Exchange   {addresses.simulator_url} (simulator; it keeps its orders in var/)
  Health     {addresses.web_url}/readyz, {addresses.web_url}/metrics
  Logs       var/log/
  Orders     demo bots send some for three accounts; send more from another terminal:
             {SEND_ORDERS}

Ctrl-C stops everything. The data stays in var/; `make run` continues with it.
"""


# -- The command ---------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def _refuse_old_data() -> None:
    """Raise StartFailed if `var/` is of a version that kept its data in SQLite."""
    if (VAR / "backoffice.sqlite3").exists():
        raise StartFailed(
            "var/ holds the data of an older version, which kept them in SQLite"
            " (var/backoffice.sqlite3): move var/ away, or delete it, and start again"
        )


def _keep_previous_logs() -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in LOGS.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def own_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables for a foreign database, broker or demo account."""
    own_account = f"EXCHANGE_{demo.ACCOUNT.upper()}_"  # begins those of all demo accounts
    unwanted = (*NOT_OURS, own_account, "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in env.items() if not name.startswith(unwanted)}


def main() -> int:
    started_at = time.monotonic()
    if (ROOT / ".env").exists():
        environ.Env.read_env(str(ROOT / ".env"))
    environment = own_environment(os.environ)
    for name in set(os.environ) - set(environment):
        del os.environ[name]  # libpq reads its variables from here
    try:
        os.umask(0o077)  # logs, keys and data are for this user only
        private_folder(VAR)
        lock = running.hold(VAR)
    except PermissionError as error:
        say(f"make run: {error.filename} belongs to another user: run as that user")
        return 1
    if lock is None:
        say(
            "make run: `make run` is running already in this folder:"
            " stop it first (Ctrl-C in its terminal)"
        )
        return 1
    with lock:
        try:
            _refuse_old_data()
            return _run(environment, started_at)
        except StartFailed as error:
            say(f"make run: {error}")
            return 1


def _run(environment: Mapping[str, str], started_at: float) -> int:
    # A killed run has left it, and its addresses are no longer true.
    running.run_env(VAR).unlink(missing_ok=True)
    addresses = read_addresses(environment)
    supervisor = Supervisor(environment, folder=ROOT, logs=LOGS)
    supervisor.obey_signals()
    postgres = PostgresServer(VAR / "postgres", durable=True)
    say("Starting the back office ...")
    try:
        _keep_previous_logs()
        postgres.prepare()
        variables = stack_env(addresses, postgres.url())
        supervisor.env |= variables | own_settings(environment)
        running.write_run_env(VAR, variables)
        start(supervisor, addresses, postgres)
        say(welcome(addresses, time.monotonic() - started_at))
        while True:
            supervisor.watch()
            time.sleep(0.2)
    except Stopped:
        say("\nStopping ...")
        return 0
    finally:
        supervisor.stop()
        running.run_env(VAR).unlink(missing_ok=True)
        postgres.remove_socket_folder()
        say("Stopped.")


if __name__ == "__main__":
    sys.exit(main())
