"""The whole back office in the foreground on embedded parts: what `make run` starts.

Each program has its log in `var/log/`. One that ends is named and started again; one that keeps ending ends the stack
with exit status 1. SIGINT or SIGTERM stops everything; on Linux nothing outlives even a killed supervisor.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import environ

from backoffice import demo
from backoffice.embedded import HOST, RedisServer, StartFailed, free_port, port_is_taken, redis_answers
from backoffice.supervisor import Child, Stopped, Supervisor

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
LOGS = VAR / "log"
#: Addresses and keys of the running stack, read by settings.py so that `manage.py` in another terminal finds it.
RUN_ENV = VAR / "run.env"

#: Threads share one process's memory; of one process they keep one core busy at most, hence two. Measured: two of four
#: place a third more orders a second than one of eight on two cores.
WORKERS = 2
WORKER_OPTIONS = ("--pool", "threads", "--concurrency", "4", "--without-gossip", "--without-mingle")


# -- The stack -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Addresses:
    web: int
    simulator: int
    redis_url: str
    owns_redis: bool

    @property
    def web_url(self) -> str:
        return f"http://{HOST}:{self.web}"

    @property
    def simulator_url(self) -> str:
        return f"http://{HOST}:{self.simulator}"


def read_addresses(env: Mapping[str, str]) -> Addresses:
    """Where everything listens. StartFailed names the variable that must change."""
    web, simulator = _port(env, "PORT", 8000), _port(env, "SIMULATOR_PORT", 9080)
    if web == simulator:
        raise StartFailed(f"PORT and SIMULATOR_PORT are both {web}: set one of them to another port")
    for name, port in (("PORT", web), ("SIMULATOR_PORT", simulator)):
        if port_is_taken(port):
            raise StartFailed(
                f"port {port} is taken by another program: choose another with {name}, say"
                f" `make run {name}={free_port()}`"
            )
    redis_url = env.get("REDIS_URL", "")
    if not redis_url:
        return Addresses(web, simulator, f"redis://{HOST}:{free_port()}/0", owns_redis=True)
    parts = urllib.parse.urlsplit(redis_url)
    if not redis_answers(parts.hostname or "localhost", parts.port or 6379):
        raise StartFailed(
            f"REDIS_URL names {parts.hostname}:{parts.port or 6379}, where no Redis answers: start it,"
            " or unset REDIS_URL to use an embedded one"
        )
    return Addresses(web, simulator, redis_url, owns_redis=False)


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise StartFailed(f"{name} must be a port number from 1 to 65535, not {text!r}")
    return int(text)


def stack_env(addresses: Addresses) -> dict[str, str]:
    """What the children, and `manage.py` in another terminal, need to find each other."""
    return {"REDIS_URL": addresses.redis_url, **demo.exchange_variables(addresses.simulator_url)}


def start(supervisor: Supervisor, addresses: Addresses) -> None:
    """Everything in its order; returns when the back office says that it is ready."""
    python, manage = sys.executable, [sys.executable, "manage.py"]
    celery = [python, "-m", "celery", "-A", "backoffice"]
    if addresses.owns_redis:
        redis = RedisServer(VAR / "redis", port=urllib.parse.urlsplit(addresses.redis_url).port or 0, keep_data=True)
        redis.directory.mkdir(parents=True, exist_ok=True)
        supervisor.add(Child("redis", redis.argv(), is_server=True))
        supervisor.wait_for(lambda: redis_answers(HOST, redis.port), "the Redis-compatible server")
    supervisor.add(Child("simulator", demo.simulator_argv(addresses.simulator, VAR), is_server=True))
    supervisor.wait_for(lambda: _answers(f"{addresses.simulator_url}/api/v3/ping"), "the exchange simulator")
    supervisor.run_once("prepare", [python, "-m", "backoffice.demo"])
    uvicorn = [python, "-m", "uvicorn", "backoffice.asgi:application", "--host", HOST, "--port", str(addresses.web)]
    for name in (f"worker-{number + 1}" for number in range(WORKERS)):
        supervisor.add(Child(name, [*celery, "worker", "--hostname", f"{name}@%h", *WORKER_OPTIONS]))
    supervisor.add(Child("web", [*uvicorn, "--timeout-graceful-shutdown", "2", "--no-access-log", "--lifespan", "off"]))
    supervisor.add(Child("beat", [*celery, "beat"]))
    supervisor.add(Child("listener", [*manage, "listen_user_stream"]))
    supervisor.wait_for(lambda: _answers(f"{addresses.web_url}/readyz"), f"{addresses.web_url}/readyz")
    supervisor.add(Child("orchestrator", [python, "examples/orchestrator.py"]))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  (our own http address)  # nosec B310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def welcome(addresses: Addresses, seconds: float) -> str:
    logins = "\n".join(f"    {login.name:<8} {login.password:<16} {login.may}" for login in demo.read_logins(VAR))
    return f"""
The back office is ready ({seconds:.0f} s).

  Admin      {addresses.web_url}/admin/
{logins}
  Exchange   {addresses.simulator_url} (simulator; it keeps its orders in var/)
  Health     {addresses.web_url}/readyz, {addresses.web_url}/metrics
  Logs       var/log/
  Orders     a demo bot sends some; send more from another terminal:
             .venv/bin/python manage.py send_orders examples/orders.csv --account {demo.ACCOUNT} --wait

Ctrl-C stops everything. The data stays in var/; `make run` continues with it.
"""


# -- The command ---------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


def _lock() -> TextIO:
    """Hold `var/run.lock`; two stacks on the same data would take each other's Redis and simulator for their own."""
    lock = (VAR / "run.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StartFailed(
            "`make run` is running already in this folder: stop it first (Ctrl-C in its terminal)"
        ) from None
    return lock


def _keep_previous_logs() -> None:
    LOGS.mkdir(parents=True, exist_ok=True)
    for log in LOGS.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))


def _write_run_env(variables: Mapping[str, str]) -> None:
    RUN_ENV.touch(mode=0o600)
    RUN_ENV.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))


def main() -> int:
    VAR.mkdir(exist_ok=True)
    started_at = time.monotonic()
    if (ROOT / ".env").exists():
        environ.Env.read_env(str(ROOT / ".env"))
    try:
        with _lock():
            RUN_ENV.unlink(missing_ok=True)  # left by a killed run: nothing of it is true any more
            addresses = read_addresses(os.environ)
            variables = stack_env(addresses)
            return _run(addresses, variables, started_at)
    except StartFailed as error:
        say(f"make run: {error}")
        return 1


def _run(addresses: Addresses, variables: Mapping[str, str], started_at: float) -> int:
    environment = os.environ | {"LOG_JSON": "off"} | dict(variables)
    supervisor = Supervisor(environment, folder=ROOT, logs=LOGS)
    supervisor.obey_signals()
    _keep_previous_logs()
    _write_run_env(variables)
    say("Starting the back office ...")
    try:
        start(supervisor, addresses)
        say(welcome(addresses, time.monotonic() - started_at))
        while True:
            supervisor.watch()
            time.sleep(0.2)
    except Stopped:
        say("\nStopping ...")
        return 0
    finally:
        supervisor.stop()
        RUN_ENV.unlink(missing_ok=True)
        say("Stopped.")


if __name__ == "__main__":
    sys.exit(main())
