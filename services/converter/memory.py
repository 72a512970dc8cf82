"""Keeping a conversion's memory as small as what it holds: freed memory goes back to the operating system.

A conversion allocates large arrays, frees them and then starts encoders. glibc and Arrow keep freed memory for later by
default; it would count on top of the encoders', and grow with the episode. Elsewhere than on glibc these calls do nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import MutableMapping

_SETTINGS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # Arrow's own pool keeps what was freed
    "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024),  # a fixed threshold: larger blocks are unmapped when freed
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),  # smaller ones give every video frame back and fetch it again
}


def prefer_small(environ: MutableMapping[str, str]) -> None:
    """Set the environment for processes that convert; what is set already stays."""
    for name, value in _SETTINGS.items():
        environ.setdefault(name, value)


def return_freed() -> None:
    """Give memory that was freed back to the operating system."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
