"""The person at the robot, as a recording sees them: told things, shown things, pressing keys."""

from __future__ import annotations

from typing import Protocol

from services.recorder.session import Key


class Console(Protocol):
    """Somewhere a person listens and answers: a terminal, or the log of a service."""

    def say(self, text: str) -> None:
        """Tell something that must be heard: it is printed, and spoken where sounds are wanted."""

    def tell(self, text: str) -> None:
        """Tell something on a line of its own."""

    def show(self, text: str) -> None:
        """Replace the line that shows how things are right now."""

    async def key(self) -> Key:
        """Wait for the next key."""
