"""Place in this process, as a bot with `wait=True`: `python -m tests.benchmarks.direct`.

For each line `orders per_second` on its input (0: as fast as each call returns) it places a round
and prints one JSON line: a list of [when it called, when the call returned, the order's status].
The call returns when the exchange's answer is on disk. Both moments are `time.time_ns()`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count
from typing import Any

import django

from tests.benchmarks.traffic import ACCOUNT, arguments_of, paced, wanted_orders

READY = "direct ready"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from orders.execution import OrderExecutionService

    service, wanted, numbers = OrderExecutionService(ACCOUNT), wanted_orders(), count(1)
    placed: list[tuple[int, int, str]] = []

    def send() -> None:
        arguments: dict[str, Any] = arguments_of(next(wanted))
        intent_id, began = f"direct-{next(numbers)}", time.time_ns()
        order = service.execute_buy_order(intent_id=intent_id, wait=True, **arguments)
        placed.append((began, time.time_ns(), str(order.status)))

    print(READY, flush=True)
    for line in sys.stdin:
        orders, per_second = line.split()
        del placed[:]
        paced(int(orders), float(per_second) or None, send)
        print(json.dumps(placed), flush=True)


if __name__ == "__main__":
    main()
