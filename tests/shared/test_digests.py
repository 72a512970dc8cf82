"""A digest follows what a document says, not how it is laid out."""

from __future__ import annotations

from shared.digests import document_digest


def test_the_digest_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert document_digest({"a": 1, "b": {"c": 2, "d": 3}}) == document_digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert document_digest({"a": [1, 2]}) != document_digest({"a": [2, 1]})
