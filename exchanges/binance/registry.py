"""Find the gateway to an account: one per thread, because each keeps a connection of its own.

A thread keeps a few gateways, those it used last, because each holds a client and a socket.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from exchanges.binance.gateway import Gateway
from exchanges.credentials import Account, environment_stamp, read_credentials

GATEWAYS_PER_THREAD = 16

_factory: Callable[[Account], Gateway] | None = None
_of_thread = threading.local()


def get_gateway(account: Account) -> Gateway:
    """Return the calling thread's gateway to this account.

    It is made again when the account's keys or hosts in the environment have changed.
    """
    if _factory is not None:
        return _factory(account)
    stamp = environment_stamp(account)
    gateways: dict[str, tuple[object, Gateway]] = _of_thread.__dict__.setdefault("gateways", {})
    known = gateways.get(account.name)
    if known is not None and known[0] == stamp:
        gateways[account.name] = gateways.pop(account.name)  # The last one was used last.
        return known[1]
    gateway = Gateway(account, read_credentials(account))
    if known is not None:
        gateways.pop(account.name)[1].close()
    gateways[account.name] = (stamp, gateway)
    while len(gateways) > GATEWAYS_PER_THREAD:
        gateways.pop(next(iter(gateways)))[1].close()
    return gateway


def is_installed() -> bool:
    """Return whether `install` has replaced the gateways, which then need no keys."""
    return _factory is not None


@contextmanager
def install(factory: Callable[[Account], Gateway]) -> Iterator[None]:
    """Let `get_gateway` call this factory within the block, in every thread. For tests."""
    global _factory
    previous, _factory = _factory, factory
    try:
        yield
    finally:
        _factory = previous


def _forget_after_fork() -> None:
    """Drop the gateways in a forked child: it must not share its parent's sockets."""
    _of_thread.__dict__.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
