"""`.env.example` is the list of all variables, and the deployment files agree with the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from backoffice.run import WORKER_OPTIONS, WORKERS

ROOT = Path(__file__).resolve().parent.parent.parent
OF_MAKE_RUN = {"PORT", "SIMULATOR_PORT"}
OF_COMPOSE = {"POSTGRES_PASSWORD"}
OF_ACCOUNTS = {
    f"EXCHANGE_<NAME>_{suffix}" for suffix in ("API_KEY", "API_SECRET", "API_SECRET_FILE", "REST_URL", "WS_URL")
}
VARIABLE = re.compile(r"^(?:# )?([A-Z][A-Z_<>]+)=(.*)$", re.MULTILINE)


def example() -> dict[str, str]:
    """Variable -> default, commented out or not."""
    return dict(VARIABLE.findall((ROOT / ".env.example").read_text()))


def read_by_settings() -> dict[str, ast.expr]:
    """Variable -> the expression of its default, for each `env.kind("NAME", default=…)` of settings.py."""
    tree = ast.parse((ROOT / "backoffice/settings.py").read_text())
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="env")),
                args=[ast.Constant(value=str(name))],
                keywords=[ast.keyword(arg="default", value=default)],
            ):
                found[name] = default
    return found


def with_plain_default() -> dict[str, object]:
    """The variables whose default is a value and not computed."""
    return {
        name: ast.literal_eval(default)
        for name, default in read_by_settings().items()
        if isinstance(default, ast.Constant | ast.List)
    }


def test_env_example__lists_exactly_what_is_read() -> None:
    assert set(example()) == set(read_by_settings()) | OF_MAKE_RUN | OF_COMPOSE | OF_ACCOUNTS


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
    for worker, queue in (("trading-worker", "trading"), ("sync-worker", "sync")):
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
    ours = {name: service for name, service in services.items() if service.get("image") == "trading-back-office"}
    assert set(ours) == {"migrate", "web", "trading-worker", "sync-worker", "beat", "listener"}
    for name, service in ours.items():
        if name != "migrate":
            assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
