"""``python -m tests.corpus`` writes docs/bad-input.md."""

from __future__ import annotations

from tests.corpus.table import PAGE, page

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
