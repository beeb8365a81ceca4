"""Make and keep a secret key for an installation that sets none."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def private_folder(path: Path) -> None:
    """Make the folder, which only its owner can list and read.

    As root, other users may pass through it: PostgreSQL runs as one of them, in a folder below.
    """
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o711 if os.geteuid() == 0 else 0o700)


def own_secret_key(path: Path) -> str:
    """Return the key in `path`, made on first use and readable by its owner only.

    Processes that start at the same time agree on one key.
    """
    private_folder(path.parent)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    if not path.exists():
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(64))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was faster, so its key is used
        finally:
            draft.unlink()
    return path.read_text()
