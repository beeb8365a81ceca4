"""Let several things happen that belong together, about orders that the step itself brings."""

from __future__ import annotations

from functools import partial
from typing import Any

from orders.models import Order
from orders.placing.cancel_many import request_cancels
from orders.states import CLOSED
from tests.simulation.changes import Changes
from tests.simulation.network import Fault


class Mishaps(Changes):
    """The steps that have several parts."""

    cancels: set[tuple[str, str]]

    def _submit(self, about: dict[str, Any]) -> None:
        raise NotImplementedError

    def _cancel(self, about: dict[str, Any]) -> None:
        raise NotImplementedError

    def _overtaken(self, about: dict[str, Any]) -> None:
        """Lose an order that the exchange numbers before one that the book keeps.

        The request of the one that stays is late, so the lost one arrives first.
        """
        world, later = self.world, self.world.scheduler.after
        fault = Fault("late request", "place", client_order_id=self._client_id(about["kept"]))
        fault.seconds = 3.0
        world.exchange.faults.append(fault)
        self._submit(dict(about["kept"]))
        later(1.0, lambda: self._failover({"loses": 1.0}))
        later(1.1, partial(self._submit, dict(about["lost"])))
        later(about["again"], partial(self._say, "orders.submit_order", _message(about["lost"])))

    def _lost_and_forgotten(self, about: dict[str, Any]) -> None:
        """Lose an order. Its bot forgets it as well, and only cancels it later."""
        later, order = self.world.scheduler.after, about["lost"]
        key = order["account"], order["intent_id"]
        self._failover({"loses": about["loses"]})
        self._submit(dict(order))

        def cancel() -> None:
            self.submitted.pop(key, None)
            self._cancel({"account": key[0], "intent_id": key[1]})

        later(about["loses"] + about["after"], cancel)

    def _silent_broker(self, about: dict[str, Any]) -> None:
        """Cancel open orders while the broker is away, and other orders wait to be sent."""
        later = self.world.scheduler.after
        for order in about["open"]:
            self._submit(dict(order))
        later(6.0, lambda: self._broker_away({"for": 20.0}))
        for number, order in enumerate(about["waiting"]):
            later(6.5 + number / 10, partial(self._submit, dict(order)))
        names = [order["intent_id"] for order in about["open"]]
        later(12.5, lambda: self._request_cancels({"intents": names}))
        self.world.cancels_within = 11.0

    def _request_cancels(self, about: dict[str, Any]) -> None:
        """Record cancels as the page does, whose process ends before it sends any."""

        def request() -> None:
            rows = Order.objects.exclude(status__in=[*CLOSED])
            if about["intents"]:
                rows = rows.filter(intent_id__in=about["intents"])
            keys = list(rows.order_by("pk").values_list("pk", flat=True))
            request_cancels(keys, requested_by="person", reason="story")

        self._bot("cancels", request)

    def _key_refused(self, about: dict[str, Any]) -> None:
        """Let the exchange refuse the key of an account for a while."""
        refused, name = self.world.exchange.refused_keys, about["account"]
        refused.add(name)
        self.world.exchange.cut_streams(name)
        self.world.marks.add("key refused")
        self._later(about, lambda: refused.discard(name))

    def _new_rules(self, about: dict[str, Any]) -> None:
        """Give a symbol another step and tick, for the only time in the story."""
        self.world.rules_change_once = True
        self._symbol_rules(about)

    def _late_table(self, about: dict[str, Any]) -> None:
        """Restore a table later than the others: for a while there is none of its name."""
        database, table = self.world.database, about["table"]
        there, back = f'"{table}"', f'"{table}_to_come"'
        database.undo_later(f"ALTER TABLE IF EXISTS {back} RENAME TO {there}")
        database.end_sessions()
        database.monitor.execute(f"ALTER TABLE {there} RENAME TO {back}")
        self.world.marks.add("table missing")

        def bring() -> None:
            database.monitor.execute(f"ALTER TABLE IF EXISTS {back} RENAME TO {there}")

        self._later(about, bring)


def _message(order: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the message about an order."""
    return {name: value for name, value in order.items() if name not in ("way", "is_dated")}
