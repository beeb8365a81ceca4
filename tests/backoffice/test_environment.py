"""Check that `.env.example` lists all variables, and that deployment files agree with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from backoffice.local.run import WORKER_OPTIONS, WORKERS
from backoffice.postgres.sessions import SessionLimits

ROOT = Path(__file__).resolve().parent.parent.parent
OF_MAKE_RUN = {"PORT", "SIMULATOR_PORT"}
OF_COMPOSE = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "BOT_REDIS_PASSWORD"}
LIMITS = SessionLimits()
OF_SESSIONS = {
    "DATABASE_CONNECT_TIMEOUT_SECONDS": LIMITS.connect_seconds,
    "DATABASE_STATEMENT_TIMEOUT_MS": LIMITS.statement_ms,
    "DATABASE_LOCK_TIMEOUT_MS": LIMITS.lock_ms,
    "DATABASE_IDLE_IN_TRANSACTION_TIMEOUT_MS": LIMITS.idle_in_transaction_ms,
    "DATABASE_TCP_USER_TIMEOUT_MS": LIMITS.tcp_user_ms,
    "DATABASE_ANSWER_TIMEOUT_SECONDS": LIMITS.answer_seconds,
    "DATABASE_POOL_SIZE": LIMITS.pool_size,
    "DATABASE_RESERVED_CONNECTIONS": LIMITS.reserved,
}
OF_ACCOUNTS = {
    f"EXCHANGE_<NAME>_{suffix}"
    for suffix in ("API_KEY", "API_SECRET", "API_SECRET_FILE", "REST_URL", "WS_URL")
}
VARIABLE = re.compile(r"^(?:# )?([A-Z][A-Z_<>]+)=(.*)$", re.MULTILINE)


def example() -> dict[str, str]:
    """Return variable -> default, commented out or not."""
    return dict(VARIABLE.findall((ROOT / ".env.example").read_text()))


def read_by_settings() -> dict[str, ast.expr]:
    """Return variable -> its default's expression, of each `env.kind("NAME", default=…)`."""
    tree = ast.parse((ROOT / "backoffice/settings.py").read_text())
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env")),
                args=[ast.Constant(value=str(name))],
                keywords=[ast.keyword(arg="default", value=default), *_],
            ):
                found[name] = default
    return found


def with_plain_default() -> dict[str, object]:
    """Return the variables with a plain value as default."""
    return {
        name: ast.literal_eval(default)
        for name, default in read_by_settings().items()
        if isinstance(default, ast.Constant | ast.List)
    }


def test_env_example__lists_exactly_what_is_read() -> None:
    others = OF_MAKE_RUN | OF_COMPOSE | OF_ACCOUNTS | set(OF_SESSIONS)
    assert set(example()) == set(read_by_settings()) | others


@pytest.mark.parametrize("name", sorted(OF_SESSIONS))
def test_env_example__shows_the_default_of_a_session(name: str) -> None:
    assert float(example()[name]) == OF_SESSIONS[name]


def test_env_example__lists_nothing_twice() -> None:
    names = [name for name, _ in VARIABLE.findall((ROOT / ".env.example").read_text())]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(with_plain_default()))
def test_env_example__shows_the_default(name: str) -> None:
    shown = example()[name]
    match with_plain_default()[name]:
        case bool(value):
            assert shown == ("on" if value else "off")
        case list(values):
            assert shown == ",".join(values)
        case int(number) | float(number):
            assert float(shown) == number
        case value:
            assert shown == value


def test_env_example__explains_every_variable() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    for number, line in enumerate(lines):
        if VARIABLE.match(line):
            above = next(text for text in reversed(lines[:number]) if not VARIABLE.match(text))
            assert above.startswith("# "), f"{line} has no explanation above it"


def test_compose__workers_run_with_the_measured_options() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for worker, queue in (
        ("trading-worker", "trading"),
        ("cancel-worker", "cancel"),
        ("duty-worker", "duties"),
        ("sync-worker", "sync"),
    ):
        words = services[worker]["command"].split()
        assert words[-len(WORKER_OPTIONS) :] == list(WORKER_OPTIONS)
        assert words[words.index("-Q") + 1] == queue
    assert services["trading-worker"]["deploy"]["replicas"] == WORKERS


def test_compose__redis_keeps_its_data_and_evicts_nothing() -> None:
    redis = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["redis"]
    assert "--maxmemory-policy noeviction --appendonly yes" in redis["command"]
    assert redis["volumes"] == ["redis:/data"]


def test_compose__every_service_of_ours_waits_for_the_migrations() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    ours = {
        name: service
        for name, service in services.items()
        if service.get("image") == "trading-back-office"
    }
    workers = {"trading-worker", "cancel-worker", "duty-worker", "sync-worker"}
    assert set(ours) == {"migrate", "web", *workers, "beat", "listener"}
    for name, service in ours.items():
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {
                "condition": "service_completed_successfully"
            }


KEY_HOLDERS = {"trading-worker", "cancel-worker", "duty-worker", "sync-worker", "listener"}


def test_compose__only_workers_and_listener_hold_keys_and_reach_the_exchange() -> None:
    config = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services, networks = config["services"], config["networks"]
    holders = {name for name, row in services.items() if "keys.env" in row.get("env_file", [])}
    assert holders == KEY_HOLDERS
    assert {name for name, row in services.items() if "exchange" in row["networks"]} == holders
    assert {name for name, row in services.items() if "./keys:/keys:ro" in row.get("volumes", [])}
    assert networks["data"]["internal"]
    assert networks["bots"]["internal"]
    bridge = networks["edge"]["driver_opts"]
    assert bridge["com.docker.network.bridge.enable_ip_masquerade"] == "false"


def test_compose__every_container_is_bounded() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service["ulimits"] == {"core": 0}, name
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert all("size=" in mount for mount in service["tmpfs"]), name
        added = set(service.get("cap_add", []))
        assert not added or name in ("postgres", "redis"), name


def test_images__are_pinned_to_an_exact_version() -> None:
    """A rebuild must bring the same server and interpreter as the last one."""
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    images = {service["image"] for service in services if "build" not in service}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    exact = re.compile(r"postgres:\d+\.\d+-\S+|(python|redis):\d+\.\d+\.\d+-\S+|\S+@sha256:\w{64}")
    assert len(images) == 3
    assert [image for image in images if not exact.fullmatch(image)] == []
