"""Request the account again and again, as fast as the shared limits allow.

Run as `python -m tests.scenarios.saturate ACCOUNT SECONDS`. The last line is JSON: the weight that
passed by minute of the exchange's limits, and how often the exchange refused.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter


def main(name: str, seconds: float) -> None:
    from exchanges import clock
    from exchanges.binance.registry import get_gateway
    from exchanges.errors import GatewayError, NotSent
    from exchanges.limits.redis import require_redis
    from exchanges.models import ExchangeAccount

    require_redis()
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
