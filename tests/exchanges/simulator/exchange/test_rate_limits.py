"""Refuse and ban clients over their limits."""

from __future__ import annotations

from exchanges.simulator.client import ControlClient
from tests.exchanges.simulator.conftest import RawClient
from tests.exchanges.simulator.helpers import refusal


def test_weight_limit__429_then_418_growing(client: RawClient, control: ControlClient) -> None:
    control.limits(request_weight=10, ban_after=3, first_ban_seconds=60.0)
    depth = {"symbol": "BTCUSDT"}
    assert [client.public("depth", depth).status_code for _ in range(2)] == [200, 200]
    over = client.public("depth", depth)
    assert refusal(over)[:2] == (429, -1003)
    assert 1 <= int(over.headers["Retry-After"]) <= 60
    client.public("ping")
    first = client.public("ping")
    assert first.status_code == 418
    assert 59 <= int(first.headers["Retry-After"]) <= 60
    for _ in range(3):
        last = client.public("ping")
    assert 118 <= int(last.headers["Retry-After"]) <= 120
    control.limits(request_weight=6000)
    assert client.public("ping").status_code == 200


def test_order_limit__429_with_1015_until_the_window_ends(
    client: RawClient, control: ControlClient
) -> None:
    control.limits(orders_10s=0, orders_day=3)
    statuses = [client.place(newClientOrderId=f"o-{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 200, 429]
    response = client.place()
    assert refusal(response) == (
        429,
        -1015,
        "Too many new orders; current limit is 3 orders per 1 DAY.",
    )
    assert int(response.headers["Retry-After"]) >= 1
    # A fill gives orders back, a cancel does not.
    client.signed("DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "o-0"})
    assert client.place().status_code == 429
    control.fill("BTCUSDT", client_order_id="o-1")
    assert client.place().status_code == 200


def test_raw_limit__counts_every_request(client: RawClient, control: ControlClient) -> None:
    control.limits(raw_requests=3)
    assert [client.public("ping").status_code for _ in range(4)] == [200, 200, 200, 429]
