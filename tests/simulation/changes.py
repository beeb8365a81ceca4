"""Let rules, settings and versions change while everything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from exchanges.models import ExchangeAccount
from orders.models import RiskLimit
from tests.simulation.change_steps import MIGRATIONS
from tests.simulation.faults import Faults
from tests.simulation.world import WORKERS


@dataclass(frozen=True, slots=True)
class LimitChange:
    """A limit that has committed."""

    open_orders: int
    claims: frozenset[int]  # that had committed by then, by the numbers of their events


class Changes(Faults):
    """The steps that change what usually stays."""

    limit_changes: dict[str, list[LimitChange]]

    # -- at the exchange

    def _symbol_rules(self, about: dict[str, Any]) -> None:
        simulator = self.world.exchange.simulator
        filters = {
            "PRICE_FILTER": {"tickSize": about["tick"], "minPrice": about["tick"]},
            "LOT_SIZE": {"stepSize": about["step"], "minQty": about["step"]},
        }

        def change() -> None:
            simulator.engine.change_symbol(about["symbol"], filters=filters)
            simulator.market.learn(about["symbol"])

        self._at_exchange(change, "new rules")

    def _symbol_gone(self, about: dict[str, Any]) -> None:
        simulator, symbol = self.world.exchange.simulator, about["symbol"]

        def delist() -> None:
            simulator.engine.delist(symbol)
            simulator.market.delist(symbol)

        self._at_exchange(delist, "symbol gone")
        self._later(about, lambda: self._relist(symbol))

    def _relist(self, symbol: str) -> None:
        """Bring a symbol back, if it is gone."""
        simulator = self.world.exchange.simulator
        try:
            simulator.engine.relist(symbol)
        except KeyError:
            return
        if price := simulator.engine.last_price(symbol):
            simulator.market.set_price(symbol, price)

    def _exchange_step(self, about: dict[str, Any]) -> None:
        world = self.world
        world.exchange.clock.offset_us += int(about["seconds"] * 1_000_000)
        world.exchange_clock_steps += abs(about["seconds"])
        world.marks.add("exchange's clock steps")

    def _exchange_drift(self, about: dict[str, Any]) -> None:
        world = self.world
        world.exchange.clock.drift(about["rate"] * 1000)
        world.exchange_clock_steps += abs(about["rate"]) / 1000 * 30.0
        world.marks.add("exchange's clock drifts")

    # -- in the back office

    def _settings(self, about: dict[str, Any]) -> None:
        """Start a process again with other settings."""
        name = about["process"]
        self.world.settings[name] = dict(about["settings"])
        self.world.marks.add("other settings")
        self.world.stop(name, about["pause"])

    def _deploy(self, about: dict[str, Any]) -> None:
        world = self.world
        names = [*WORKERS, "listener", "beat-1"]
        if about["settings"]:
            for name in names:
                world.settings[name] = dict(about["settings"])
        world.marks.add("deploy")
        if about["how"] == "at once":
            left = set(names)

            def is_gone(name: str) -> Callable[[], None]:
                def then() -> None:
                    left.discard(name)
                    if not left:
                        self._migration(about)

                return then

            for name in names:
                world.stop(name, about["pause"], is_gone(name))
            return
        self._migration(about)
        self._stop_next(names, about["pause"])

    def _stop_next(self, names: list[str], pause: float) -> None:
        """Stop the first process, and the others when it is gone."""
        if names:
            world, rest = self.world, names[1:]

            def then() -> None:
                world.scheduler.after(pause, lambda: self._stop_next(rest, pause))

            world.stop(names[0], pause, then)

    def _migration(self, about: dict[str, Any]) -> None:
        forward, backward = MIGRATIONS[about["migration"]]
        self.world.database.undo_later(backward)

        def migrate() -> None:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '2000ms'")
                cursor.execute(forward)
            self.world.marks.add("migration")

        self._bot("migration", migrate)

    def _new_limit(self, about: dict[str, Any]) -> None:
        """Change the limit of open orders, as the desk does."""
        name, number, world = about["account"], about["open_orders"], self.world

        def change() -> None:
            task = world.scheduler.mine()
            assert task is not None

            def store() -> None:
                with transaction.atomic():
                    account = ExchangeAccount.objects.get(name=name)
                    row = RiskLimit.objects.select_for_update().filter(account=account).first()
                    row = row or RiskLimit(account=account)
                    row.max_open_orders = number
                    row.save()

            claims = world.database.claims_before(task, store)
            self.limit_changes.setdefault(name, []).append(LimitChange(number, claims))
            world.marks.add("new limit")

        self._bot("limit", change)

    def _redis_back(self, about: dict[str, Any]) -> None:
        """Let a replica of Redis take over that lacks the last seconds."""
        redis = self.world.redis
        snapshot, began = redis.copy(), self.world.scheduler.now_us

        def take_over() -> None:
            redis.put_back(snapshot)
            self.world.lost_moments["redis"].append((began, self.world.scheduler.now_us))
            self.world.marks.add("redis went back")

        self.world.scheduler.after(about["loses"], take_over)
