from __future__ import annotations
from django.http import HttpRequest, HttpResponse
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok\n", content_type="text/plain")
readyz = metrics = healthz
