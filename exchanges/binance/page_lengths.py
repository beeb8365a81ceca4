"""Judge by its length whether a page of a list may be followed by another one.

An exchange may send fewer rows than we asked for, and it doesn't say so. So a page is certainly the
last one only if it is shorter than another page of the same list. The longest one is remembered in
this process, and a page that is as long costs one more request.
"""

from __future__ import annotations

# By host and list.
_longest: dict[tuple[str, str], int] = {}


def may_go_on(host: str, name: str, length: int, limit: int) -> bool:
    """Return whether rows may follow a page of this length. At most `limit` rows were asked for."""
    longest = _longest.get((host, name), 0)
    _longest[host, name] = max(longest, length)
    # No exchange sends a list row by row.
    return length >= limit or length >= max(longest, 2)
