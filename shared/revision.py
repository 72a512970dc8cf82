"""The revision of a raw episode: a hash over what a listing shows of it. Pure.

Who announces an episode leaves this as its mark in the ledger, so that the scanner can tell a known episode from a changed one.
"""

from __future__ import annotations

import hashlib

from shared.store_object import ObjectInfo


class Revision:
    """Grows with every object of an episode, in the order of the listing."""

    def __init__(self) -> None:
        self._content = hashlib.sha256()

    def add(self, info: ObjectInfo, tail: str) -> None:
        """Count one object; ``tail`` is its path below the episode."""
        mark = info.etag or f"{info.modified_s:.6f}"
        self._content.update(f"{tail}\0{info.size_bytes}\0{mark}\n".encode())

    @property
    def text(self) -> str:
        """Sixteen hexadecimal digits: the same content is the same revision."""
        return self._content.hexdigest()[:16]
