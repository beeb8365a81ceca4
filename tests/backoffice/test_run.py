"""What `make run` says before it starts anything; `test_make_run.py` runs the whole stack."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from backoffice import embedded, run
from backoffice.embedded import StartFailed, free_port


@pytest.mark.parametrize("variable", ["PORT", "SIMULATOR_PORT"])
def test_read_addresses__names_the_taken_port_and_its_variable(variable: str) -> None:
    free = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    with socket.socket() as taken:
        taken.bind((embedded.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=rf"port {port} is taken .* {variable}, say `make run {variable}=\d+`"):
            run.read_addresses(free | {variable: str(port)})


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "80 80"])
def test_read_addresses__refuses_what_is_no_port(text: str) -> None:
    with pytest.raises(StartFailed, match="SIMULATOR_PORT must be a port number"):
        run.read_addresses({"PORT": str(free_port()), "SIMULATOR_PORT": text})


def test_read_addresses__refuses_one_port_for_both() -> None:
    port = str(free_port())
    with pytest.raises(StartFailed, match="PORT and SIMULATOR_PORT are both"):
        run.read_addresses({"PORT": port, "SIMULATOR_PORT": port})


def test_read_addresses__names_the_redis_that_does_not_answer() -> None:
    ports = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    silent = free_port()
    with pytest.raises(StartFailed, match=rf"REDIS_URL names 127.0.0.1:{silent}, where no Redis answers"):
        run.read_addresses(ports | {"REDIS_URL": f"redis://127.0.0.1:{silent}/0"})


def test_read_addresses__uses_a_given_redis_and_starts_none(redis_url: str) -> None:
    ports = {"PORT": str(free_port()), "SIMULATOR_PORT": str(free_port())}
    addresses = run.read_addresses(ports | {"REDIS_URL": redis_url})
    assert addresses.redis_url == redis_url
    assert not addresses.owns_redis


def test_main__a_second_stack_on_the_same_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "VAR", tmp_path)
    run_env = tmp_path / "run.env"
    run_env.write_text("REDIS_URL=redis://of-the-first\n")
    monkeypatch.setattr(run, "RUN_ENV", run_env)
    with run._lock():
        assert run.main() == 1
    assert run_env.exists(), "the first stack still needs it"
    assert "running already in this folder" in capsys.readouterr().out
