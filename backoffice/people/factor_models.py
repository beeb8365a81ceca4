"""Store second factors so that a copy of the database gives none of them away.

Both are the tables of django-otp under other classes. The table holds a random salt instead of the
seed of an authenticator app, and a keyed hash instead of a recovery code. `SECOND_FACTOR_KEY` is in
the environment only, and turns the first into the seed and a typed code into the second.
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from binascii import unhexlify

from django.conf import settings
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice


def keyed(purpose: str, data: bytes) -> bytes:
    key: str = settings.SECOND_FACTOR_KEY
    return hmac.digest(key.encode(), purpose.encode() + b"\0" + data, "sha256")


class Authenticator(TOTPDevice):
    """An authenticator app on a person's phone."""

    class Meta:
        proxy = True
        default_permissions = ()

    @property
    def bin_key(self) -> bytes:
        """Return the seed, as long as SHA-1 wants it. The library computes the codes from it."""
        return keyed("authenticator", unhexlify(self.key))[:20]

    @property
    def seed_text(self) -> str:
        """Return the seed in the form that people type into an app, in groups of four."""
        text = b32encode(self.bin_key).decode()
        return " ".join(text[start : start + 4] for start in range(0, len(text), 4))


class RecoveryCodes(StaticDevice):
    """The recovery codes of a person. Each opens the door once."""

    class Meta:
        proxy = True
        default_permissions = ()

    def hashed(self, code: str) -> str:
        """Return the text that the table holds for a code."""
        data = f"{self.user_id}\0{code}".encode()
        return b32encode(keyed("recovery", data)[:10]).decode().lower()

    def verify_token(self, token: str) -> bool:
        return bool(super().verify_token(self.hashed(token)))
