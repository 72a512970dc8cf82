"""What a check of the doctor found: one line each."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "FAIL"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one check.

    Attributes:
        check: what was looked at.
        level: ``ok``, ``warn`` (it works, but look at it) or ``FAIL`` (something will not work).
        found: the fact.
        remedy: what to do; empty for ok.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check=check, level="ok", found=found)


def warn(check: str, found: str, remedy: str) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding(check=check, level="warn", found=found, remedy=remedy)


def fail(check: str, found: str, remedy: str) -> Finding:
    """Return a finding without whose remedy something will not work."""
    return Finding(check=check, level="FAIL", found=found, remedy=remedy)
