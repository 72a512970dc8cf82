"""What a case of the corpus is: one thing broken in something sound, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

F = TypeVar("F", bound=Callable[..., Any])


class EpisodeCase(msgspec.Struct, frozen=True, kw_only=True):
    """One change to a sound raw episode.

    Attributes:
        name: of the case and of its episode.
        what: in words, for the table.
        group: where it stands in the table.
        change: does it to the episode's folder.
        sentence: what the conversion must say; None: it must work.
        error_type: class of the error.
        overrides: of the configuration.
        is_trusted: converted as on a person's own disk, where links are followed; else as in a service.
    """

    name: str
    what: str
    group: str
    change: Callable[[Path], None]
    sentence: str | None
    error_type: str
    overrides: dict[str, Any]
    is_trusted: bool


class EventCase(msgspec.Struct, frozen=True, kw_only=True):
    """One hostile event on ``episode.ready.{source}``.

    Attributes:
        name: of the case, and the episode id wherever the body can name one.
        what: in words, for the table.
        body: what is published.
        sentence: what the service must say; a part in the middle of it where the whole quotes the body.
        error_type: class of the error.
        is_named: whether the failure can carry the case's episode id.
    """

    name: str
    what: str
    body: bytes
    sentence: str
    error_type: str
    is_named: bool


class Corpus:
    """Collects the cases of one group; use its methods as decorators."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.cases: list[EpisodeCase] = []

    def refused(
        self, sentence: str, *, error_type: str = "BadRaw", overrides: dict[str, Any] | None = None, is_trusted: bool = False
    ) -> Callable[[F], F]:
        """Register a change after which the conversion says ``sentence``; the docstring says what it is."""
        return self._registered(sentence, error_type=error_type, overrides=overrides, is_trusted=is_trusted)

    def works(self, *, overrides: dict[str, Any] | None = None, is_trusted: bool = False) -> Callable[[F], F]:
        """Register a change that must not disturb the conversion."""
        return self._registered(None, error_type="", overrides=overrides, is_trusted=is_trusted)

    def _registered(self, sentence: str | None, *, error_type: str, overrides: dict[str, Any] | None, is_trusted: bool) -> Callable[[F], F]:
        def register(change: F) -> F:
            case = EpisodeCase(
                name=change.__name__,
                what=(change.__doc__ or "").strip().rstrip("."),
                group=self.group,
                change=change,
                sentence=sentence,
                error_type=error_type,
                overrides=overrides or {},
                is_trusted=is_trusted,
            )
            self.cases.append(case)
            return change

        return register
