"""The corpus as a page for people: docs/bad-input.md."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.corpus.hostile import EVENTS
from tests.corpus.whole import EPISODES

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
_LONGEST_CELL = 300

_INTRODUCTION = """\
# Bad input, and what is said about it

Every row is a test: a sound raw episode, event or configuration with one thing broken. An episode that is refused ends as
one `episode.failed` with this sentence and the reason `rejected`; the service goes on, and nothing of the episode is left
behind. This page is written by `python -m tests.corpus`; do not edit it.

Links: `convert` reads a person's own disk and follows symbolic links. A service reads what others uploaded: below the
folder of the source no link counts, neither of a file nor of a folder, so that an episode cannot show files of the host.
In both, only regular files are read. What the rows below call "one's own disk" is the first kind; all other rows are
converted as in a service.

Not refused, but ignored: files beside the frames that are not named `.jpg` or `.jpeg`, names that begin with a dot, folders
below a camera's folder, other columns beside the joints, other keys in `metadata.json`.

Limits: an image 16,384 pixels a side, 64 Mi pixels and 64 MiB; an arm 10,000,000 samples; `metadata.json` 1 MiB; a task
4,096 characters; an event 512 KiB, its overrides 16 levels; an episode 1,000,000 rows and 512 MiB of actions.
"""


def page() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for group, cases in groupby(EPISODES, key=lambda case: case.group):
        parts.append(_section(group, [(case.what, case.sentence) for case in cases]))
    parts.append(_section("Events", [(case.what, case.sentence) for case in EVENTS]))
    return "\n".join(parts)


def _section(title: str, rows: list[tuple[str, str | None]]) -> str:
    lines = [f"## {title}", "", "| broken | said |", "|---|---|"]
    lines += [f"| {what} | {'works' if sentence is None else _cell(sentence)} |" for what, sentence in rows]
    return "\n".join([*lines, ""])


def _cell(sentence: str) -> str:
    """Return a sentence as code in a table, where a bar must be escaped; what does not end is cut."""
    cut = sentence if len(sentence) <= _LONGEST_CELL else f"{sentence[:_LONGEST_CELL]} …"
    escaped = cut.replace("|", "\\|")
    return f"`` {escaped} ``" if "`" in escaped else f"`{escaped}`"
