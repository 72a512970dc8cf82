"""What a person reads about a recording."""

from __future__ import annotations

import math

import pytest

from services.recorder.saving.news import Announced, Flowing, HeldBack, Removed, Restarted, Saved, SaverNews, Unsaved, Waiting
from services.recorder.wording import RecorderStatus, news_text, status_line

STATUS = RecorderStatus(
    phase="recording",
    episode=26,
    num_episodes=50,
    dataset="lab/blocks",
    task="Stack.",
    elapsed_s=12.0,
    num_waiting=0,
    rate_hz=199.96,
    cameras={"left": 30.0, "front": 24.96},
    problems=(),
)


@pytest.mark.parametrize(
    ("changes", "remaining_s", "line"),
    [
        ({}, 108.0, "recording 26/50  12/120 s  arms 200 Hz  left 30 fps  front 25 fps"),
        ({"phase": "waiting"}, math.inf, "waiting 26/50  12 s  arms 200 Hz  left 30 fps  front 25 fps"),
        (
            {"num_waiting": 3, "problems": ("left is gone",)},
            8.0,
            "recording 26/50  12/20 s  arms 200 Hz  left 30 fps  front 25 fps  3 waiting  ! left is gone",
        ),
    ],
)
def test_one_line_says_how_things_are(changes: dict[str, object], remaining_s: float, line: str) -> None:
    status = RecorderStatus(**{**{name: getattr(STATUS, name) for name in STATUS.__struct_fields__}, **changes})  # type: ignore[arg-type]

    assert status_line(status, remaining_s=remaining_s) == line


@pytest.mark.parametrize(
    ("news", "text"),
    [
        (Saved(episode_id="e", num_bytes=4_100_000, duration_s=0.012), "e saved (4.1 MB in 0.01 s)"),
        (Announced(episode_id="e", seq=7, delay_s=0.0391), "e announced 39 ms after its end"),
        (Waiting(reason="the bus is away", num_waiting=2), "2 episodes wait on this disk: the bus is away"),
        (Flowing(num_waiting=2), "the outage is over, 2 episodes go out now"),
        (
            Removed(episode_id="e", num_frames=90, duration_s=3.2),
            "e was being recorded when the recorder was killed: removed (90 images, 3 s)",
        ),
        (Unsaved(episode_id="e", sentence="the disk is full"), "e: the disk is full"),
        (HeldBack(episode_id="e", sentence="forbidden"), "e: forbidden"),
        (Restarted(sentence="started again"), "started again"),
    ],
)
def test_every_news_of_the_saver_is_told(news: SaverNews, text: str) -> None:
    assert news_text(news) == text
