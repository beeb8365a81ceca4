"""A process that asks for the account again and again, as fast as the shared limits let it, and says what it was told.

Run as `python -m tests.scenarios.saturate ACCOUNT SECONDS`; the last line is JSON: weight that passed by minute of the
exchange's limits, and how often the exchange refused.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter


def main(name: str, seconds: float) -> None:
    from exchanges import clock, limits
    from exchanges.errors import GatewayError, NotSent
    from exchanges.gateway import get_gateway
    from exchanges.models import ExchangeAccount

    limits.share_strictly()
    gateway = get_gateway(ExchangeAccount.objects.get(name=name))
    passed, refused = Counter[int](), 0
    until = clock.monotonic() + seconds
    print("asking", flush=True)
    while clock.monotonic() < until:
        minute = clock.now_ms() // 60_000
        try:
            gateway.fetch_account()
            passed[minute] += 20
        except NotSent as error:
            if error.http_status is not None:
                refused += 1
            clock.sleep(min(error.retry_after or 0.1, 0.2))
        except GatewayError:
            refused += 1
    print(json.dumps({"passed": passed, "refused": refused}), flush=True)


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    main(sys.argv[1], float(sys.argv[2]))
