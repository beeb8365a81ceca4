"""Run a Redis-compatible primary, its replica and three sentinels that fail over between them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import redis

from backoffice.local import embedded
from tests.harness.waiting import wait_for

MASTER_NAME = "backoffice"
SENTINELS, QUORUM = 3, 2
NOTICES_AFTER_MS = 1000


class WatchedRedis:
    """A pair of servers behind one URL, which leads to the one that is the primary now."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers = [
            embedded.RedisServer(directory / name, port=embedded.free_port(), keep_data=False)
            for name in ("one", "two")
        ]
        self._sentinel_ports: list[int] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        hosts = ",".join(f"{embedded.HOST}:{port}" for port in self._sentinel_ports)
        return f"sentinel://{hosts}/0?master_name={MASTER_NAME}"

    def start(self) -> None:
        first, second = self.servers
        for server in self.servers:
            server.start()
        with client(second.port) as replica:
            replica.replicaof(embedded.HOST, first.port)
            wait_for(lambda: in_step(replica), what="the replica has everything")
        for number in range(SENTINELS):
            self._start_sentinel(number, first.port)
        wait_for(self._is_watched, what="the sentinels know each other and the replica")

    def primary_port(self) -> int:
        """Return the port of the primary, by the first sentinel's word."""
        with client(self._sentinel_ports[0]) as sentinel:
            return int(sentinel.sentinel_get_master_addr_by_name(MASTER_NAME)[1])

    def kill_primary(self) -> int:
        """Kill the primary, and return its port."""
        port = self.primary_port()
        server = next(server for server in self.servers if server.port == port)
        assert server.process is not None
        embedded.stop(server.process, signal_number=9)
        server.process = None
        return port

    def stop(self) -> None:
        for process in self._sentinels:
            embedded.stop(process)
        for server in self.servers:
            server.stop()

    def _start_sentinel(self, number: int, primary_port: int) -> None:
        folder = self.directory / f"sentinel-{number}"
        folder.mkdir(parents=True)
        port = embedded.free_port()
        file = folder / "sentinel.conf"  # the sentinel writes into it
        file.write_text(
            f"port {port}\nbind {embedded.HOST}\ndir {folder.resolve()}\n"
            f"sentinel monitor {MASTER_NAME} {embedded.HOST} {primary_port} {QUORUM}\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {NOTICES_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER_NAME} 5000\n"
        )
        argv = [embedded.find_redis_server(), str(file), "--sentinel"]
        self._sentinels.append(embedded.spawn(argv, log=folder / "sentinel.log"))
        self._sentinel_ports.append(port)

    def _is_watched(self) -> bool:
        try:
            for port in self._sentinel_ports:
                with client(port) as sentinel:
                    seen = sentinel.sentinel_master(MASTER_NAME)
                if int(seen["num-other-sentinels"]) != SENTINELS - 1 or not int(seen["num-slaves"]):
                    return False
        except redis.RedisError:
            return False
        return True


def client(port: int) -> redis.Redis:
    return redis.Redis(host=embedded.HOST, port=port, decode_responses=True)


def in_step(replica: redis.Redis) -> bool:
    return replica.info("replication").get("master_link_status") == "up"
