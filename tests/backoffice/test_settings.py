"""Check that a setting that isn't understood stops the start and is named."""

from __future__ import annotations

import json
import os
import pwd
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.core.exceptions import ImproperlyConfigured
from kombu.connection import Connection

from backoffice.environment import Environment, read_env_file
from backoffice.secret_key import own_secret_key
from exchanges.limits import redis as shared
from exchanges.limits.redis_url import canonical_redis_url
from exchanges.limits.sentinel_url import celery_options, celery_url, read_sentinel_url
from orders.management.helpers import shell_actor

connect: Any = Connection
ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import json, sys
from backoffice import settings
json.dump({name: getattr(settings, name) for name in sys.argv[1:]}, sys.stdout)
"""


def start(*names: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Read the settings in a process of its own, and print some as JSON."""
    environment = {
        **os.environ,
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "DJANGO_SETTINGS_MODULE": "backoffice.settings",
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_settings__a_dollar_sign_means_itself() -> None:
    literal = {"METRICS_TOKEN": "$tr0ng-token", "SECRET_KEY": "$ecret-key-of-this-installation"}
    started = start(*literal, **literal, ORDER_EVENTS_TASK="$HOME")
    assert json.loads(started.stdout) == literal, started.stderr


BAD = {
    "DEBUG": ["maybe", "2", "'on'"],
    "SECURE_SSL": ["ture"],
    "RECONCILE_AT_START": ["nope"],
    "CELERY_TASK_ALWAYS_EAGER": ["$DEBUG"],
    "CELERY_REMOTE_CONTROL": ["enabled"],
    "LOG_JSON": ["json"],
    "EXCHANGE_RECV_WINDOW_MS": ["5s", "-1", "5000.5", "1e3", "0", "60001", "٥"],
    "EXCHANGE_REQUEST_TIMEOUT_MS": ["12_000", "0", "0x10", "9" * 30],
    "EXCHANGE_READ_LAG_MS": ["-1", "$LAG"],
    "BREAKER_FAILURES": ["0", "ten"],
    "HALT_UNRESOLVED_ORDERS": ["-5"],
    "HALT_BREAKER_OPEN_SECONDS": ["never"],
    "PLACE_WITHIN_SECONDS": ["nan", "inf", "-1", "0", "30s", "1,5", "99999999999"],
    "SYNC_INTERVAL_SECONDS": ["0", "Infinity"],
    "RESOLVE_INTERVAL_SECONDS": ["0.0"],
    "MID_INTERVAL_SECONDS": ["0", "often"],
    "LANGUAGE_CODE": ["klingon"],
    "LOG_LEVEL": ["LOUD"],
    "DEPLOYMENT_ID": ["", " ", "a\nb"],
    "MONEY_ASSETS": ["USDT,,EUR", "usdt", "USDT EUR"],
    "CSRF_TRUSTED_ORIGINS": ["backoffice.example", "https://", "ftp://x"],
    "DATABASE_URL": ["mysql://x/y", "postgres://u:p@h:port/n", "postgres://[::1/n"],
    "REDIS_URL": [
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis://h:port/0",
        "redis://h/name",
        "redis:///0",
        "redis://h/0?timeout=1",
        "redis://:pa#ss@h/0",
        "redis://h/0?ssl_cert_reqs=required",
        "rediss://h/0?ssl_cert_reqs=CERT_MAYBE",
        "rediss://h/0?ssl_ca_certs=",
        "rediss://h/0?ssl_check_hostname=no",
        "sentinel://h:26379/0",
        "sentinel://h:26379/0?master_name=",
        "sentinel://h:26379/name?master_name=m",
        "sentinel://h:port/0?master_name=m",
        "sentinel:///0?master_name=m",
        "sentinel://h,,i/0?master_name=m",
        "sentinel://h/0?master_name=m&ssl_cert_reqs=none",
        "sentinel://h/0;sentinel://i/0?master_name=m",
    ],
    "CELERY_BROKER_URL": [
        "rabbit://h",
        "redis://h/x",
        "amqp://h:port//",
        "localhost",
        "redis://h/0;sentinel://i/0",
    ],
    "CELERY_RESULT_BACKEND": ["rediss://h/0?ssl_cert_reqs=yes", "paper://h", "redis"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in BAD for v in BAD[n]])
def test_settings__a_bad_value_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run the settings' own source with this one value, without its effects on logs."""
    monkeypatch.setattr("backoffice.logs.configure_logging", lambda **_: None)
    monkeypatch.setattr("backoffice.local.running.env_files", lambda _: [])
    monkeypatch.setenv("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
    monkeypatch.setenv(name, value)
    source = ROOT / "backoffice/settings.py"
    with pytest.raises(ImproperlyConfigured) as caught:
        exec(compile(source.read_text(), source, "exec"), {"__file__": str(source)})
    assert name in str(caught.value)
    assert not name.endswith("_URL") or value not in str(caught.value)


def test_settings__a_bad_value_stops_a_process() -> None:
    started = start("DEBUG", PLACE_WITHIN_SECONDS="30s")
    assert started.returncode != 0
    assert "ImproperlyConfigured: PLACE_WITHIN_SECONDS" in started.stderr


def test_environment__an_empty_value_means_the_default() -> None:
    env = Environment({"COUNT": "", "SWITCH": "", "SECONDS": " "})
    assert env.int("COUNT", default=3) == 3
    assert env.bool("SWITCH", default=True) is True
    assert env.seconds("SECONDS", default=2.5) == 2.5


@pytest.mark.parametrize("line", ["NAME value", "=value", "A B=1", "- x"])
def test_read_env_file__a_line_that_is_no_setting_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"# a comment\n\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=r"\.env, line 3"):
        read_env_file(file)


# -- One meaning of a Redis URL --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "meaning"),
    [
        ("", ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=CERT_REQUIRED", ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=required", ssl.CERT_REQUIRED),
        ("?ssl_cert_reqs=CERT_OPTIONAL", ssl.CERT_OPTIONAL),
        ("?ssl_cert_reqs=cert_none", ssl.CERT_NONE),
        ("?ssl_cert_reqs=none&ssl_ca_certs=/etc/ca%20s.pem", ssl.CERT_NONE),
    ],
)
def test_redis_url__means_the_same_to_broker_results_and_our_client(
    query: str, meaning: ssl.VerifyMode
) -> None:
    url = canonical_redis_url("REDIS_URL", f"REDISS://:p%40ss@redis.example:6380/3{query}")
    assert canonical_redis_url("REDIS_URL", url) == url
    transport = connect(url).transport
    channel = transport.Channel.__new__(transport.Channel)  # not set up: that would connect
    channel.connection = transport
    own = shared._client(url).connection_pool
    results = Celery("x", backend=url, set_as_current=False).backend.connparams
    sent = {
        "broker": _facts(channel._connparams(), own.connection_class),
        "results": _facts(results, own.connection_class),
        "own": _facts(own.connection_kwargs, own.connection_class),
    }
    assert set(sent.values()) == {
        ("redis.example", 6380, 3, "p@ss", meaning, "/etc/ca s.pem" if "ca" in query else None)
    }


def _facts(options: dict[str, Any], kind: Any) -> tuple[Any, ...]:
    """Return how a client would connect, with the certificate mode as redis-py reads it."""
    tls = {key: options.get(key) for key in ("ssl_cert_reqs", "ssl_ca_certs")}
    return (
        options["host"],
        options["port"],
        int(options["db"]),
        options["password"],
        kind(**tls).cert_reqs,
        tls["ssl_ca_certs"],
    )


@pytest.mark.long
def test_settings__cookies_are_for_https_unless_a_word_says_otherwise() -> None:
    names = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")
    own = {"SECRET_KEY": "made-up"}
    safe = start(*names, "SECURE_HSTS_SECONDS", **own)
    assert json.loads(safe.stdout) == dict.fromkeys(names, True) | {
        "SECURE_HSTS_SECONDS": 31_536_000
    }, safe.stderr
    for word in ("PLAIN_HTTP", "DEBUG"):
        assert json.loads(start(*names, **own, **{word: "on"}).stdout) == dict.fromkeys(
            names, False
        )
    assert json.loads(start(*names, **own, DEBUG="on", PLAIN_HTTP="off").stdout) == dict.fromkeys(
        names, True
    )


def test_var__belongs_to_its_user(tmp_path: Path) -> None:
    own_secret_key(tmp_path / "var" / "secret_key")
    others = 0o011 if os.geteuid() == 0 else 0
    assert (tmp_path / "var").stat().st_mode & 0o077 == others, "nobody else lists or reads it"
    assert (tmp_path / "var" / "secret_key").stat().st_mode & 0o777 == 0o600


def test_shell_actor__is_the_user_and_not_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert shell_actor() == f"shell:{pwd.getpwuid(os.getuid()).pw_name}"


def test_sentinel_url__has_one_spelling_which_celery_gets_translated() -> None:
    given = "SENTINEL://eva:p%40s@one,two:26380/3?sentinel_password=x&master_name=m"
    url = canonical_redis_url("REDIS_URL", given)
    assert url == "sentinel://eva:p%40s@one:26379,two:26380/3?master_name=m&sentinel_password=x"
    assert canonical_redis_url("REDIS_URL", url) == url
    assert celery_url("CELERY_BROKER_URL", url) == (
        "sentinel://eva:p%40s@one:26379/3;sentinel://eva:p%40s@two:26380/3"
    )
    options = celery_options("CELERY_BROKER_URL", url)
    assert (options["master_name"], options["sentinel_kwargs"]["password"]) == ("m", "x")
    assert "p@s" not in repr(read_sentinel_url("REDIS_URL", url))
    assert celery_options("CELERY_BROKER_URL", "redis://one/0") == {}


def test_sentinel_url__means_the_same_to_broker_results_and_our_client() -> None:
    url = canonical_redis_url("REDIS_URL", "sentinel://:p%40s@one:1,two:2/3?master_name=m")
    spelled, options = celery_url("X", url), celery_options("X", url)
    transport = connect(spelled, transport_options=options).transport
    channel = transport.Channel.__new__(transport.Channel)  # not set up: that would connect
    channel.connection = transport
    broker = channel._connparams()
    celery = Celery("x", backend=spelled, set_as_current=False)
    celery.conf.result_backend_transport_options = options
    results = celery.backend.connparams
    own: Any = shared._client(url).connection_pool
    assert [(row["host"], row["port"]) for row in results["hosts"]] == [("one", 1), ("two", 2)]
    assert [
        sentinel.connection_pool.connection_kwargs["port"]
        for sentinel in own.sentinel_manager.sentinels
    ] == [1, 2]
    assert own.service_name == options["master_name"] == "m"
    for meant in (broker, results, own.connection_kwargs):
        assert (int(meant["db"]), meant["password"]) == (3, "p@s")
