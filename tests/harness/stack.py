"""What one test process (each xdist worker has its own) owns: a folder, a PostgreSQL, a Redis-compatible server."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from django.conf import settings
from django.db import connections

from backoffice.databases import database_settings
from tests.harness.postgres import PostgresServer, binaries
from tests.harness.redis import TestRedis


class Stack:
    """Addresses are fixed at once, servers start when the first test needs them."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="backoffice-tests-"))
        self.directory.chmod(0o711)  # PostgreSQL may run as another user, who must reach its own folder below
        self.redis = TestRedis(self.directory / "redis")
        self.postgres = PostgresServer(self.directory / "postgres")
        #: Whether the tests' database is on `postgres`; else DATABASE_URL names it.
        self.owns_database = "DATABASE_URL" not in os.environ and binaries() is not None

    def point_django_here(self) -> None:
        """pytest-django loads the settings before any conftest, so they are corrected before the first connection."""
        from backoffice.celery import app

        if self.owns_database:
            url = self.postgres.url()
        else:
            url = os.environ.get("DATABASE_URL", f"sqlite:///{self.directory}/backoffice.sqlite3")
        database = settings.DATABASES["default"]
        database.clear()
        database.update(database_settings(url))
        if database["ENGINE"].endswith("sqlite3"):
            # A file, not memory: worker processes must see it.
            database["TEST"] = {"NAME": str(self.directory / "test.sqlite3")}
        connections.configure_settings(settings.DATABASES)
        assert connections["default"].connection is None, "a connection was opened before the suite chose its database"
        del connections["default"]
        settings.REDIS_URL = settings.CELERY_BROKER_URL = settings.CELERY_RESULT_BACKEND = self.redis.url
        app.conf.update(broker_url=self.redis.url, result_backend=self.redis.url)

    def close(self) -> None:
        connections.close_all()
        self.postgres.stop()
        self.redis.close()
        shutil.rmtree(self.directory, ignore_errors=True)
