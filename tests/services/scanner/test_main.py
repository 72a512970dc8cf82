"""What `scanner --once` tells a person."""

from __future__ import annotations

from services.scanner.__main__ import summary_text
from services.scanner.service import Summary, Waiting


def test_one_scan_is_told_with_what_was_published_and_what_waits_and_why() -> None:
    waiting = Waiting(source="bos", episode_id="e2", why="no frame in images/front/")
    summary = Summary(found=3, published=("bos/e1", "bos/e3"), waiting=(waiting,))

    assert summary_text(summary).splitlines() == [
        "3 episodes looked at, 2 published, 1 waiting",
        "published bos/e1",
        "published bos/e3",
        "waiting   bos/e2: no frame in images/front/",
    ]
