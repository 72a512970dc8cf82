"""What is published for an episode that nobody announced: its recorder's own words, where it left some. Pure.

Our recorder writes into ``joints/metadata.json`` what its event says: the growing dataset, the strategy, the overrides. An
episode of anybody else gets the configured strategy and becomes a dataset of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.events import DatasetName, EpisodeReady, Strategy


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """An event, and what tells two recordings of one name apart."""

    event: EpisodeReady
    token: str

    @property
    def message_id(self) -> str:
        """The id under which the stream takes the event once, the same as its recorder's."""
        event = self.event
        return f"ready:{event.source}:{event.episode_id}:{event.strategy}:{self.token}"


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a recorder's metadata that an event has too."""

    nonce: str
    strategy: Strategy | None = None
    dataset: DatasetName | None = None
    task: str | None = None
    config_overrides: dict[str, Any] = {}


def announcement(event: EpisodeReady, *, revision: str, metadata: bytes | None) -> Announcement:
    """Return what is published for an episode.

    Args:
        event: with the configured strategy.
        revision: of the episode's content.
        metadata: content of ``joints/metadata.json``; None: there is none.
    """
    try:
        words = msgspec.json.decode(metadata or b"", type=_Words)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Announcement(event=event, token=revision)  # not of our recorder; the converter says what is wrong with it
    changes = {name: getattr(words, name) for name in ("dataset", "task", "config_overrides")}
    return Announcement(event=msgspec.structs.replace(event, strategy=words.strategy or event.strategy, **changes), token=words.nonce)
