"""Which files a program reads its variables from: those of a running demo first."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from backoffice.local import running
from tests.harness.processes import ROOT

SHOW = """
from django.conf import settings
database = settings.DATABASES["default"]
print(database["HOST"], settings.REDIS_URL, settings.CELERY_BROKER_URL, end=" ")
print(settings.CELERY_RESULT_BACKEND)
"""


def test_is_running__only_while_the_lock_is_held(tmp_path: Path) -> None:
    assert not running.is_running(tmp_path)
    lock = running.hold(tmp_path)
    assert lock is not None
    assert running.is_running(tmp_path)
    assert running.hold(tmp_path) is None
    lock.close()
    assert not running.is_running(tmp_path)


def test_hold__is_not_put_off_by_settings_that_look_for_a_demo(tmp_path: Path) -> None:
    go_on = threading.Event()

    def look() -> None:
        while not go_on.is_set():
            running.is_running(tmp_path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        lock = running.hold(tmp_path)
    finally:
        go_on.set()
        thread.join()
    assert lock is not None
    lock.close()


def test_env_files__of_a_running_demo_come_first(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    assert running.env_files(tmp_path) == []
    running.write_run_env(tmp_path / "var", {"REDIS_URL": "redis://demo"})
    (tmp_path / ".env").touch()
    assert running.env_files(tmp_path) == [tmp_path / ".env"], "no demo runs"
    lock = running.hold(tmp_path / "var")
    assert lock is not None
    with lock:
        own = tmp_path / "var" / "run.env"
        assert running.env_files(tmp_path) == [own, tmp_path / ".env"]
        assert own.stat().st_mode & 0o077 == 0, "it holds keys"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the project's settings, with a `.env` of a real installation."""
    for name in ("backoffice", "exchanges", "orders", "locale"):
        (tmp_path / name).symlink_to(ROOT / name)
    # The settings look for files beside the package that holds them.
    (tmp_path / "backoffice").unlink()
    (tmp_path / "backoffice").mkdir()
    for path in (ROOT / "backoffice").iterdir():
        (tmp_path / "backoffice" / path.name).symlink_to(path)
    (tmp_path / "backoffice" / "settings.py").unlink()
    (tmp_path / "backoffice" / "settings.py").write_text(
        (ROOT / "backoffice/settings.py").read_text()
    )
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgres://live.example/orders\n"
        "REDIS_URL=redis://live.example:6379/0\n"
        "CELERY_BROKER_URL=redis://broker.example:6379/0\n"
        "CELERY_RESULT_BACKEND=redis://results.example:6379/0\n"
    )
    (tmp_path / "var").mkdir()
    return tmp_path


def addresses(checkout: Path, **variables: str) -> list[str]:
    """Return the addresses that a program in another terminal would connect to."""
    unset = ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=checkout,
        env=env | variables | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.long
def test_settings__of_a_second_terminal_are_those_of_the_running_demo(checkout: Path) -> None:
    demo = {
        "DATABASE_URL": "postgres://backoffice@:5432//demo/var/postgres/backoffice",
        "REDIS_URL": "redis://127.0.0.1:7777/0",
        "CELERY_BROKER_URL": "",
        "CELERY_RESULT_BACKEND": "",
    }
    running.write_run_env(checkout / "var", demo)
    real = [
        "live.example",
        "redis://live.example:6379/0",
        "redis://broker.example:6379/0",
        "redis://results.example:6379/0",
    ]
    assert addresses(checkout) == real, "the file is of a killed demo"

    lock = running.hold(checkout / "var")
    assert lock is not None
    with lock:
        assert addresses(checkout) == ["/demo/var/postgres", *["redis://127.0.0.1:7777/0"] * 3]
        named = addresses(checkout, DATABASE_URL="postgres://mine.example/orders")
        assert named[0] == "mine.example", "the environment wins over every file"

    assert addresses(checkout) == real
