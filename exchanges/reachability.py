"""Does an account's exchange answer? Asked for `/readyz`; told within two seconds, whatever the exchange does."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from exchanges import clock
from exchanges.credentials import environment_stamp
from exchanges.errors import GatewayError
from exchanges.gateway import get_gateway
from exchanges.models import ExchangeAccount

MAX_AGE_SECONDS = 2.0
PATIENCE_SECONDS = 2.0
PREPARING_SECONDS = 20.0  # the first question of a process imports ccxt, which says nothing about the exchange


@dataclass(slots=True)
class _Probe:
    """One question to one exchange; `trouble` is empty where it was answered."""

    started_at: float
    prepared: threading.Event = field(default_factory=threading.Event)  # from then on it is the exchange that is slow
    answered: threading.Event = field(default_factory=threading.Event)
    trouble: str = ""

    @property
    def age(self) -> float:
        return clock.monotonic() - self.started_at


_probes: dict[tuple[object, ...], _Probe] = {}  # by account, and what leads to its exchange
_lock = threading.Lock()


def exchange_troubles(accounts: Iterable[ExchangeAccount]) -> dict[str, str]:
    """Account name -> why its exchange cannot be used now, empty if it can; an answer is good for two seconds.

    The exchanges are asked side by side for their time. A question that hangs is waited for once; until it ends, nobody
    asks again and nobody waits again.
    """
    probes = {account.name: _probe(account) for account in accounts}
    troubles = {}
    for name, probe in probes.items():
        probe.prepared.wait(max(0.0, PREPARING_SECONDS - probe.age))
        answered = probe.answered.wait(max(0.0, PATIENCE_SECONDS - probe.age))
        troubles[name] = probe.trouble if answered else f"no answer for {probe.age:.1f} s"
    return troubles


def _probe(account: ExchangeAccount) -> _Probe:
    key = (account.name, *environment_stamp(account))
    with _lock:
        probe = _probes.get(key)
        if probe is not None and (not probe.answered.is_set() or probe.age < MAX_AGE_SECONDS):
            return probe
        probe = _probes[key] = _Probe(clock.monotonic())
    # A daemon: a hanging exchange must not keep the process from ending.
    threading.Thread(target=_ask, args=(account, probe), name=f"probe-{account.name}", daemon=True).start()
    return probe


def _ask(account: ExchangeAccount, probe: _Probe) -> None:
    try:
        gateway = get_gateway(account)
        probe.started_at = clock.monotonic()
        probe.prepared.set()
        try:
            gateway.server_time_ms()
        finally:
            gateway.close()  # this thread asks only once
    except GatewayError as error:
        probe.trouble = f"{type(error).__name__}: {error}"
    except Exception as error:
        probe.trouble = f"internal error: {type(error).__name__}"
        raise
    finally:
        probe.answered.set()
        probe.prepared.set()
