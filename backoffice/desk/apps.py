from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class DeskConfig(AppConfig):
    name = "backoffice.desk"
    label = "desk"

    def ready(self) -> None:
        # Every process must know the tasks by name, also a web process that only enqueues them.
        import_module("backoffice.desk.tasks")
