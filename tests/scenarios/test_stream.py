"""The user data stream on real servers: simulator, PostgreSQL, and the listener as a process."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from exchanges.models import Balance, StreamState
from orders.models import Order
from tests.harness.waiting import wait_for
from tests.steps import submit

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def listener(account: Any, simulator: Any, processes: Any) -> Any:
    simulator.control.set_price("BTCUSDT", "60000")
    # Its second comparison is over, so later changes come from the stream.
    return processes.command("listen_user_stream", ready="account_reconciled")


def is_in_sync() -> bool:
    return StreamState.objects.filter(in_sync_since__isnull=False).exists()


@pytest.mark.core
def test_listener__a_fill_arrives_without_any_query(listener: Any, simulator: Any) -> None:
    order = submit()
    client_order_id = order.exchange_orders.get().client_order_id
    simulator.control.fill("BTCUSDT", client_order_id=client_order_id, quantity="0.004")
    wait_for(
        lambda: Order.objects.get(pk=order.pk).status == "PARTIALLY_FILLED", what="the partial fill"
    )
    simulator.control.fill("BTCUSDT", client_order_id=client_order_id)
    wait_for(lambda: Order.objects.get(pk=order.pk).status == "FILLED", what="the fill")
    order.refresh_from_db()
    assert order.filled_quantity == order.quantity
    assert sum(fill.quantity for fill in order.fills.all()) == order.quantity
    assert "GET /api/v3/order" not in simulator.control.truth().requests
    wait_for(lambda: Balance.objects.filter(asset="USDT", locked=0).exists(), what="the balance")
    free, locked = simulator.control.truth().balances("main")["USDT"]
    row = Balance.objects.get(asset="USDT")
    assert (str(row.free.normalize()), row.locked) == (str(free.normalize()), locked)


def test_listener__what_happened_while_cut_off_is_caught_up(listener: Any, simulator: Any) -> None:
    order = submit()
    simulator.control.disconnect_streams(reset=True)
    simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
    wait_for(
        lambda: Order.objects.get(pk=order.pk).status == "FILLED",
        timeout=20,
        what="the fill after the cut",
    )
    wait_for(is_in_sync, timeout=20, what="in sync again")


def test_listener__a_strangers_order_is_recorded_as_external(listener: Any, simulator: Any) -> None:
    import ccxt

    exchange = ccxt.binance(
        {
            "apiKey": simulator.api_key,
            "secret": simulator.api_secret,
            "urls": {
                "api": {"public": f"{simulator.url}/api/v3", "private": f"{simulator.url}/api/v3"}
            },
        }
    )
    exchange.private_post_order(
        {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
         "quantity": "0.01",
         "price": "51000", "newClientOrderId": "by-hand"}
    )  # fmt: skip
    wait_for(lambda: Order.objects.filter(is_external=True).exists(), what="the external order")
    order = Order.objects.get(is_external=True)
    assert (order.status, order.intent_id.split(":")[0]) == ("NEW", "external")


def test_listener__stops_within_seconds_on_sigterm(listener: Any) -> None:
    os.kill(listener.pid, signal.SIGTERM)
    wait_for(lambda: not listener.is_alive, timeout=5, what="the listener has stopped")
    assert listener.running.returncode == 0
    state = StreamState.objects.get()
    assert (state.connected_since, state.in_sync_since, state.reason) == (
        None,
        None,
        "the listener has stopped",
    )


def test_listener__stops_within_seconds_while_it_waits_for_an_answer(
    account: Any, simulator: Any, processes: Any
) -> None:
    hanging = {"method": "GET", "path": "/api/v3/openOrders"}
    rule = simulator.control.faults.add("never_answer", match=hanging, times=None)
    listener = processes.command(
        "listen_user_stream", ready="stream_connected", env={"EXCHANGE_REQUEST_TIMEOUT_MS": "60000"}
    )
    wait_for(lambda: simulator.control.faults.hits(rule), what="it catches up, and waits")
    os.kill(listener.pid, signal.SIGTERM)
    wait_for(lambda: not listener.is_alive, timeout=5, what="the listener has stopped")


def test_listener__its_state_is_shown_in_the_admin_and_to_machines(
    listener: Any, admin_client: Client, settings: Settings
) -> None:
    settings.METRICS_OPEN = True
    account = StreamState.objects.get().account
    page = f"/admin/exchanges/exchangeaccount/{account.pk}/change/"
    assert "in sync" in admin_client.get(page).content.decode()
    figures = admin_client.get("/metrics").content.decode()
    assert 'backoffice_stream_connected{account="demo"} 1.0' in figures
    assert 'backoffice_stream_in_sync{account="demo"} 1.0' in figures
    listener.stop()
    assert "the listener has stopped" in admin_client.get(page).content.decode()
    figures = admin_client.get("/metrics").content.decode()
    assert 'backoffice_stream_in_sync{account="demo"} 0.0' in figures


def test_listener__a_refused_key_is_told(account: Any, simulator: Any, processes: Any) -> None:
    simulator.control.revoke_key(simulator.api_key)
    processes.command("listen_user_stream", ready="stream_terminated")
    wait_for(
        lambda: StreamState.objects.filter(reason__startswith="stopped").exists(), what="the reason"
    )


def test_worker__compares_every_account_when_it_starts(
    account: Any, simulator: Any, processes: Any
) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    order = submit()
    simulator.control.fill("BTCUSDT", client_order_id=order.exchange_orders.get().client_order_id)
    processes.worker(env={"RECONCILE_AT_START": "on"})
    wait_for(
        lambda: Order.objects.get(pk=order.pk).status == "FILLED",
        what="caught up with by the worker's start",
    )
