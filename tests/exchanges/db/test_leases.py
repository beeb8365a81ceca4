"""Check that work is given to one at a time, and that a dead holder costs seconds."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.db import leases
from exchanges.db.leases import LeaseLost, acquire, lease
from exchanges.models import Lease

pytestmark = pytest.mark.django_db


def test_lease__one_at_a_time() -> None:
    with lease("work") as first, lease("work") as second:
        assert (first, second) == (True, False)
    with lease("work") as third:
        assert third


def test_lease__names_its_holder_by_host_and_a_random_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers give their processes and threads the same numbers."""
    monkeypatch.setattr("socket.gethostname", lambda: "worker-1")
    holders = []
    for _ in range(2):
        with lease("work"):
            holders.append(Lease.objects.get().holder)
    assert {holder.partition(":")[0] for holder in holders} == {"worker-1"}
    assert len(set(holders)) == 2


def test_lease__ends_by_the_databases_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    assert acquire("work", "gone", 20)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(hours=1))
    assert not acquire("work", "another", 20)
    Lease.objects.update(expires_at=Now() - timedelta(milliseconds=1))
    monkeypatch.setattr(clock, "now", lambda: now - timedelta(hours=1))
    assert acquire("work", "another", 20)


def test_lease__a_dead_holder_blocks_for_seconds(settings: Settings) -> None:
    assert leases.HOLD_SECONDS <= 20
    assert leases.HOLD_SECONDS > settings.EXCHANGE_REQUEST_TIMEOUT_MS / 1000


def test_renew__keeps_a_lease_as_long_as_its_holder_works(monkeypatch: pytest.MonkeyPatch) -> None:
    at = clock.monotonic()
    with lease("work"):
        Lease.objects.update(expires_at=Now() + timedelta(seconds=1))
        leases.renew()  # Too early: it was taken just now.
        assert not Lease.objects.filter(expires_at__gt=Now() + timedelta(seconds=2)).exists()
        monkeypatch.setattr(clock, "monotonic", lambda: at + 10)
        leases.renew()
        assert Lease.objects.filter(expires_at__gt=Now() + timedelta(seconds=15)).exists()


def test_renew__a_holder_that_lost_its_lease_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    at = clock.monotonic()
    with lease("work"):
        assert leases.release("work", reason="it hangs", actor="boss")
        monkeypatch.setattr(clock, "monotonic", lambda: at + 10)
        with pytest.raises(LeaseLost):
            leases.renew()
        assert acquire("work", "another", 20)
    assert Lease.objects.get().holder == "another"
    assert not acquire("work", "third", 20)


def test_release_lease__lists_releases_and_steals() -> None:
    def run(*arguments: str) -> str:
        out = StringIO()
        call_command("release_lease", *arguments, stdout=out)
        return out.getvalue().strip()

    assert run() == "No lease is held."
    acquire("sync:demo", "gone", 20)
    assert run().startswith("sync:demo: gone until ")
    with pytest.raises(CommandError, match="reason is required"):
        run("sync:demo")
    assert run("sync:demo", "--reason", "it is dead", "--steal-for", "60") == "Held: sync:demo."
    assert not acquire("sync:demo", "worker", 20)
    assert run("sync:demo", "--reason", "go on") == "Released: sync:demo."
    assert acquire("sync:demo", "worker", 20)
    with pytest.raises(CommandError, match="no lease is held"):
        run("another", "--reason", "it is dead")
