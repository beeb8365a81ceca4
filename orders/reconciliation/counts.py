"""Count the work of one run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RunCounts:
    """Count orders seen, changed, asked for, recovered (ours) and recorded as external."""

    seen: int = 0
    changed: int = 0
    asked: int = 0
    recovered: int = 0
    external: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}
