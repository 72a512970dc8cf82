"""What can go wrong on a simulated bus, as a person writes it: ``left_follower.missing=3,right_leader.slow=80``. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shared.errors import BadConfig

PORT_NAMES = ("left_follower", "right_follower", "left_leader", "right_leader")
_OPTION = "--faults"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of one bus; the default is none.

    Args:
        missing: id of a servo that is not there; 0: every servo is there.
        silence: seconds after the start from which nobody answers.
        corrupt: every n-th reply has a wrong byte; 0: none.
        slow: milliseconds before each reply.
        unplug: seconds after the start at which the port goes away.
        echo: the adapter lets the host hear its own bytes.
    """

    missing: int = 0
    silence: float | None = None
    corrupt: int = 0
    slow: float = 0.0
    unplug: float | None = None
    echo: bool = False


def faults_by_port(text: str) -> dict[str, Faults]:
    """Return the faults that ``text`` asks for: ``PORT.KIND=VALUE`` separated by commas; ``PORT.echo`` has no value.

    Raises:
        BadConfig: an unknown port or kind, or a value that is no number.
    """
    found: dict[str, dict[str, object]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        place, _, value = item.partition("=")
        port, _, kind = place.partition(".")
        if port not in PORT_NAMES:
            raise BadConfig(_OPTION, item, f"unknown port {port!r}, expected one of {', '.join(PORT_NAMES)}")
        if kind not in Faults.__struct_fields__:
            raise BadConfig(_OPTION, item, f"unknown fault {kind!r}, expected one of {', '.join(Faults.__struct_fields__)}")
        found.setdefault(port, {})[kind] = True if kind == "echo" else value
    return {port: _converted(port, kinds) for port, kinds in found.items()}


def merged_faults(texts: Sequence[str]) -> dict[str, Faults]:
    """Return the faults of an option that may be given several times."""
    return faults_by_port(",".join(texts))


def _converted(port: str, kinds: dict[str, object]) -> Faults:
    try:
        return msgspec.convert(kinds, Faults, strict=False)
    except msgspec.ValidationError as error:
        raise BadConfig(_OPTION, port, f"expected a number as the value of a fault ({error})") from error
