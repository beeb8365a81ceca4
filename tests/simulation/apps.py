"""Let Django find the command `simulate_faults`."""

from __future__ import annotations

from django.apps import AppConfig


class SimulationConfig(AppConfig):
    name = "tests.simulation"
    label = "simulation"
