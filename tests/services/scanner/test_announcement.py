"""What is published for an episode that nobody announced."""

from __future__ import annotations

import msgspec
import pytest

from services.scanner.announcement import announcement
from shared.events import EpisodeReady

EVENT = EpisodeReady(episode_id="e1", source="robot", strategy="chunking", timestamp=5.0)


def test_a_recorders_own_words_are_published_under_its_own_id() -> None:
    words = {
        "nonce": "n1",
        "strategy": "nearest",
        "dataset": "lab/blocks",
        "task": "Stack.",
        "config_overrides": {"video.fps": 30},
        "fps": 30,
    }

    found = announcement(EVENT, revision="r1", metadata=msgspec.json.encode(words))

    assert found.message_id == "ready:robot:e1:nearest:n1"
    assert (found.event.dataset, found.event.task, found.event.config_overrides) == ("lab/blocks", "Stack.", {"video.fps": 30})
    assert (found.event.episode_id, found.event.timestamp) == ("e1", 5.0)


@pytest.mark.parametrize("metadata", [None, b"", b"{", b'{"task": "Stack."}', b'{"nonce": "n", "strategy": "none"}', b"\xff", b"[]"])
def test_anybody_elses_episode_gets_the_configured_strategy(metadata: bytes | None) -> None:
    found = announcement(EVENT, revision="r1", metadata=metadata)

    assert found.event == EVENT
    assert found.message_id == "ready:robot:e1:chunking:r1"
