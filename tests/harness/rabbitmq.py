"""Run a real RabbitMQ, if one is installed, whose messages survive a kill."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from kombu.connection import Connection

from backoffice.local import embedded
from tests.harness.waiting import wait_for

connect: Any = Connection  # it has no types
#: The Debian package's own program. The one on the path changes to another user.
PACKAGED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def find_rabbitmq() -> str | None:
    return str(PACKAGED) if PACKAGED.exists() else shutil.which("rabbitmq-server")


class RabbitMQ:
    """One node with its own port mapper (epmd), so that no other node is touched."""

    def __init__(self, program: str, directory: Path) -> None:
        self.program = program
        self.directory = directory
        self.port, distribution_port, mapper_port = (embedded.free_port() for _ in range(3))
        self.url = f"amqp://guest:guest@{embedded.HOST}:{self.port}//"
        directory.mkdir(parents=True)
        self._mapper_argv = ["epmd", "-port", str(mapper_port), "-address", embedded.HOST]
        self._mapper: embedded.Process | None = None
        self._server: embedded.Process | None = None
        self._env = {
            **os.environ,
            "HOME": str(directory),  # for the cookie
            "ERL_EPMD_PORT": str(mapper_port),
            "RABBITMQ_NODENAME": f"test-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": embedded.HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(directory / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
        }

    def start(self) -> None:
        if self._mapper is None:
            self._mapper = embedded.spawn(self._mapper_argv, log=self.directory / "epmd.log")
        self._server = embedded.spawn(
            [self.program], log=self.directory / "server.log", env=self._env
        )
        wait_for(self._answers, timeout=60, what="RabbitMQ answers")

    def kill(self) -> None:
        if self._server is not None:
            embedded.stop(self._server, signal_number=9)
            self._server = None

    def stop(self) -> None:
        self.kill()
        if self._mapper is not None:
            embedded.stop(self._mapper)
            self._mapper = None

    def _answers(self) -> bool:
        try:
            with connect(self.url, connect_timeout=2) as connection:
                connection.connect()
        except OSError:
            return False
        return True


def has_quorum_queue(url: str, name: str) -> bool:
    """Return whether the queue exists as a quorum queue. Another kind refuses this declaration."""
    with connect(url) as connection:
        channel = connection.default_channel
        try:
            channel.queue_declare(
                name, durable=True, arguments={"x-queue-type": "quorum"}, auto_delete=False
            )
        except connection.channel_errors:
            return False
    return True
