"""Check that the waiting room lets so many requests work at once, and that each gets its turn."""

from __future__ import annotations

import asyncio
from typing import Any

from backoffice.web.waiting_room import Message, Receive, Scope, Send, WaitingRoom


async def nothing() -> Message:
    return {"type": "http.request", "body": b""}


class Door:
    """An application whose answers begin and end when the test says so."""

    def __init__(self) -> None:
        self.working: list[str] = []
        self.begin = asyncio.Event()
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.working.append(scope["path"])
        await self.begin.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"done"})


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def visit(room: WaitingRoom, path: str, kind: str = "http") -> tuple[asyncio.Task[None], list[Any]]:
    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    return asyncio.ensure_future(
        room({"type": kind, "method": "GET", "path": path}, nothing, send)
    ), sent


def test_waiting_room__lets_so_many_in_and_the_rest_in_their_order() -> None:
    async def story() -> None:
        door = Door()
        room = WaitingRoom(door, at_once=2, patience=60)
        visits = [visit(room, f"/{number}")[0] for number in range(5)]
        await settled()
        assert door.working == ["/0", "/1"]
        door.begin.set()
        door.end.set()
        await asyncio.gather(*visits)
        assert door.working == [f"/{number}" for number in range(5)]

    asyncio.run(story())


def test_waiting_room__keeps_no_turn_for_an_answer_that_has_begun() -> None:
    async def story() -> None:
        door = Door()
        room = WaitingRoom(door, at_once=1, patience=60)
        door.begin.set()
        live = [visit(room, "/live")[0], visit(room, "/another")[0]]
        await settled()
        assert door.working == ["/live", "/another"]
        door.end.set()
        await asyncio.gather(*live)

    asyncio.run(story())


def test_waiting_room__never_holds_up_the_health_check() -> None:
    async def story() -> None:
        door = Door()
        room = WaitingRoom(door, at_once=1, patience=60)
        visits = [visit(room, "/page")[0], visit(room, "/page")[0]]
        await settled()
        asked, sent = visit(room, "/healthz")
        await asked
        assert [sent[0]["status"], sent[1]["body"]] == [200, b"ok\n"]
        assert door.working == ["/page"]
        door.begin.set()
        door.end.set()
        await asyncio.gather(*visits)

    asyncio.run(story())


def test_waiting_room__says_busy_instead_of_waiting_long() -> None:
    async def story() -> None:
        door = Door()
        room = WaitingRoom(door, at_once=1, patience=0.01)
        first, _ = visit(room, "/page")
        second, sent = visit(room, "/page")
        await second
        assert sent[0]["status"] == 503
        assert (b"retry-after", b"5") in sent[0]["headers"]
        door.begin.set()
        door.end.set()
        await first
        third, _ = visit(room, "/page")  # the one that gave up has taken no turn
        await third

    asyncio.run(story())


def test_waiting_room__gives_the_turn_back_after_an_error() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    async def story() -> None:
        room = WaitingRoom(broken, at_once=1, patience=60)
        for _ in range(3):
            visiting, _sent = visit(room, "/page")
            assert isinstance(
                (await asyncio.gather(visiting, return_exceptions=True))[0], RuntimeError
            )

    asyncio.run(story())
