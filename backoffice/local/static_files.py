"""Gather the static files of `make run` once: compressed, and with their hash in the name."""

from __future__ import annotations

import hashlib
from pathlib import Path

_STAMP = ".gathered"


def gather(target: Path) -> bool:
    """Gather the files, unless they are those of the last time. Return whether it did."""
    from django.core.management import call_command

    stamp, found = target / _STAMP, _fingerprint()
    if stamp.exists() and stamp.read_text() == found:
        return False
    call_command("collectstatic", interactive=False, clear=target.exists(), verbosity=0)
    stamp.write_text(found)
    return True


def _fingerprint() -> str:
    """Return a text that changes with any name, size or time of a file."""
    from django.contrib.staticfiles.finders import get_finders

    known = hashlib.sha256()
    for finder in get_finders():
        for name, storage in finder.list([]):
            file = Path(storage.path(name)).stat()
            known.update(f"{name} {file.st_size} {file.st_mtime_ns}\n".encode())
    return known.hexdigest()
