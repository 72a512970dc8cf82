"""One way to hash a document, so that equal contents have equal digests wherever they are made. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec


def document_digest(document: Mapping[str, object]) -> str:
    """Return ``sha256:…`` over a document of plain values, whatever the order of its keys."""
    return f"sha256:{hashlib.sha256(msgspec.json.encode(document, order='sorted')).hexdigest()}"
