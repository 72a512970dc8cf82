"""The page about bad input is what the corpus says."""

from __future__ import annotations

from tests.corpus.hostile import EVENTS
from tests.corpus.table import PAGE, page
from tests.corpus.whole import EPISODES


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.corpus`"


def test_the_page_has_a_row_for_every_case() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| ") and line != "| broken | said |"]

    assert len(rows) == len(EPISODES) + len(EVENTS)
