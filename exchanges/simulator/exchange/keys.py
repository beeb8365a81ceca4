"""Verify signatures: API keys and the payloads they sign.

There are three kinds of keys. HMAC-SHA-256 signatures are hex and ignore case. RSA (PKCS#1 v1.5,
SHA-256) and Ed25519 signatures are base64 and case-sensitive. A signature covers the text as it was
sent (percent-encoded), so the payload comes from the raw request and is never rebuilt from parsed
values.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

Verifier = Callable[[bytes, str], bool]


class KeyKind(enum.Enum):
    HMAC = "HMAC"
    RSA = "RSA"
    ED25519 = "Ed25519"


@dataclass(slots=True)
class ApiKey:
    """Describe an API key of an account.

    Revoking a key clears `active`, and restoring it sets `active` again.
    """

    key: str
    account: str
    kind: KeyKind
    verify: Verifier
    can_trade: bool = True
    can_read: bool = True
    active: bool = True
    created_ms: int = 0


def make_api_key(
    key: str, secret: str, account: str, *, created_ms: int = 0, can_trade: bool = True
) -> ApiKey:
    """Return a key.

    `secret` is an HMAC secret, a public PEM, or a private PEM from which the public half is taken.
    Raises ValueError for any other PEM.
    """
    kind, verify = _verifier(secret)
    return ApiKey(
        key=key,
        account=account,
        kind=kind,
        verify=verify,
        can_trade=can_trade,
        created_ms=created_ms,
    )


def _verifier(secret: str) -> tuple[KeyKind, Verifier]:
    text = secret.strip()
    if not text.startswith("-----BEGIN"):
        return KeyKind.HMAC, _hmac_verifier(secret.encode())
    try:
        public = _load_public(text.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"not a usable PEM key: {error}") from error
    if isinstance(public, ed25519.Ed25519PublicKey):
        return KeyKind.ED25519, _ed25519_verifier(public)
    if isinstance(public, rsa.RSAPublicKey):
        return KeyKind.RSA, _rsa_verifier(public)
    raise ValueError("API keys are HMAC secrets, Ed25519 or RSA keys in PEM")


def _load_public(pem: bytes) -> object:
    if b"PUBLIC KEY" in pem:
        return load_pem_public_key(pem)
    return load_pem_private_key(pem, password=None).public_key()


def _hmac_verifier(secret: bytes) -> Verifier:
    def verify(payload: bytes, signature: str) -> bool:
        expected = hmac.digest(secret, payload, "sha256").hex()
        return hmac.compare_digest(expected, signature.lower()) if signature.isascii() else False

    return verify


def _ed25519_verifier(public: ed25519.Ed25519PublicKey) -> Verifier:
    def verify(payload: bytes, signature: str) -> bool:
        raw = _base64(signature)
        if raw is None:
            return False
        try:
            public.verify(raw, payload)
        except InvalidSignature:
            return False
        return True

    return verify


def _rsa_verifier(public: rsa.RSAPublicKey) -> Verifier:
    def verify(payload: bytes, signature: str) -> bool:
        raw = _base64(signature)
        if raw is None:
            return False
        try:
            public.verify(raw, payload, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True

    return verify


def _base64(signature: str) -> bytes | None:
    # A plus sign that wasn't escaped in a query arrives as a space.
    try:
        return base64.b64decode(signature.replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        return None


def rest_payload(query: str, body: str) -> bytes:
    """Return the signed text of a REST request.

    That is the raw query followed by the raw body, without a separator and without the signature.
    """
    return (_without_signature(query) + _without_signature(body)).encode("utf-8", "surrogateescape")


def _without_signature(part: str) -> str:
    if "signature=" not in part:
        return part
    return "&".join(pair for pair in part.split("&") if not pair.startswith("signature="))


def websocket_payload(params: Mapping[str, str]) -> bytes:
    """Return the signed text of a WebSocket API request.

    That is all parameters but the signature, in alphabetical order.
    """
    return "&".join(
        f"{name}={params[name]}" for name in sorted(params) if name != "signature"
    ).encode()
