"""Find the address of a client, even behind proxies, so that no header can forge it."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the client's IP address.

    Each of the `TRUSTED_PROXIES` appends to `X-Forwarded-For` the address it was called from, so
    the entry that the outermost one wrote counts from the right. Everything left of it is the
    client's own claim. Without proxies the header means nothing.
    """
    socket: str = request.META.get("REMOTE_ADDR", "")
    proxies: int = settings.TRUSTED_PROXIES
    if not proxies:
        return socket
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    if len(hops) < proxies:
        return socket
    try:
        return str(ip_address(hops[-proxies]))
    except ValueError:
        return socket


def network_of(address: str) -> str:
    """Return the address, or the /64 of an IPv6 address, which one client owns as a whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))
