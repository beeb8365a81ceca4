from __future__ import annotations

import re
from uuid import UUID

from orders.ids import client_order_id, intent_hash, split_client_order_id, uuid7


def test_intent_hash__is_the_one_the_contract_describes() -> None:
    # base32(blake2b-128("main\nsimulator\ndemo\nbuy-1")), computed by hand with b2sum -l 128 and
    # base32.
    import base64
    import subprocess

    digest = subprocess.run(
        ["b2sum", "-l", "128"],
        input=b"main\nsimulator\ndemo\nbuy-1",
        capture_output=True,
        check=True,
    ).stdout.split()[0]
    expected = base64.b32encode(bytes.fromhex(digest.decode())).decode().rstrip("=").lower()
    assert (
        intent_hash(
            deployment_id="main", environment="simulator", account="demo", intent_id="buy-1"
        )
        == expected
    )


def test_intent_hash__differs_with_each_part() -> None:
    base = {"deployment_id": "d", "environment": "e", "account": "a", "intent_id": "i"}
    hashes = {intent_hash(**base)} | {intent_hash(**{**base, name: "x"}) for name in base}
    assert len(hashes) == 5


def test_client_order_id__fits_the_exchange() -> None:
    hashed = intent_hash(
        deployment_id="main", environment="live", account="a" * 64, intent_id="z" * 64
    )
    for attempt in (1, 9, 99, 999):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,36}", client_order_id(hashed, attempt))


def test_split_client_order_id__reads_back_what_was_made() -> None:
    assert split_client_order_id("bo-" + "a" * 26 + "-12") == ("a" * 26, 12)
    for stranger in (
        "",
        "x-TKT5PX2F123",
        "bo-short-1",
        "bo-" + "a" * 26,
        "bo-" + "a" * 26 + "-x",
        "web_abc",
    ):
        assert split_client_order_id(stranger) is None


def test_uuid7__is_version_7_and_sorts_by_time() -> None:
    first, second = uuid7(), uuid7()
    assert first.version == second.version == 7
    assert first.variant == UUID("01890a5d-ac96-774b-bcce-b302099a8057").variant
    assert abs((first.int >> 80) - (second.int >> 80)) < 1000
