"""Check which accounts sync at a tick of the beat."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from exchanges import clock
from exchanges.models import ExchangeAccount, StreamState
from orders.reconciliation.open_orders import accounts_due_for_sync
from tests.factories import ExchangeAccountFactory

pytestmark = pytest.mark.django_db
REST = 60  # SYNC_INTERVAL_STREAMING_SECONDS


def account(
    *, synced: float | None, stream: dict[str, float | None] | None = None, **changes: Any
) -> None:
    """Make an account. Times are seconds ago. `stream` gives `in_sync_since` and `alive_at`."""
    now = clock.now()

    def ago(seconds: float | None) -> Any:
        return None if seconds is None else now - timedelta(seconds=seconds)

    row: ExchangeAccount = ExchangeAccountFactory(
        name="demo", last_synced_at=ago(synced), **changes
    )
    if stream is not None:
        StreamState.objects.create(
            account=row, **{name: ago(seconds) for name, seconds in stream.items()}
        )


HEALTHY: dict[str, float | None] = {"in_sync_since": 600, "alive_at": 1}
CASES = {
    "a healthy stream, compared a while ago": ({"synced": 30, "stream": HEALTHY}, False),
    "a healthy stream, compared long ago": ({"synced": REST, "stream": HEALTHY}, True),
    "never compared": ({"synced": None, "stream": HEALTHY}, True),
    "no listener was ever started": ({"synced": 16}, True),
    "not in sync": ({"synced": 16, "stream": {"in_sync_since": None, "alive_at": 1}}, True),
    "its listener is silent": (
        {"synced": 16, "stream": {"in_sync_since": 600, "alive_at": 20}},
        True,
    ),
    "disabled": ({"synced": None, "is_enabled": False}, False),
}


@pytest.mark.parametrize(("given", "is_due"), CASES.values(), ids=CASES)
def test_accounts_due_for_sync__rests_only_while_the_stream_is_healthy(
    given: dict[str, Any], is_due: bool
) -> None:
    account(**given)
    assert accounts_due_for_sync() == (["demo"] if is_due else [])
