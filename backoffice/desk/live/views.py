"""The stream of bells: server-sent events that carry topics and never data."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from backoffice.desk.live.bell import messages


def can_stream(request: HttpRequest) -> bool:
    """Return whether the server can keep a stream open. A WSGI server can't."""
    return isinstance(request, ASGIRequest)


@require_safe
async def stream(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream a bell to the page of a signed-in member of staff whenever something changes."""
    user = await request.auser()
    session_key = request.session.session_key
    if not can_stream(request) or not (user.is_active and user.is_staff and session_key):
        return HttpResponse(status=204)  # a browser then stops asking
    response = StreamingHttpResponse(_events(session_key), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # nginx would hold the bells back
    response["Content-Encoding"] = "identity"  # and so would a compression
    return response


async def _events(session_key: str) -> AsyncIterator[str]:
    # The middleware has used this request's thread and its connection. The stream needs neither.
    await sync_to_async(connections.close_all)()
    async for told in messages(session_key):
        yield "".join(f"event: {message}\ndata: {message}\n\n" for message in told)
