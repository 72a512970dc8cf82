"""What the saver tells: one struct for each thing that happens to an episode. Pure."""

from __future__ import annotations

import msgspec


class Saved(msgspec.Struct, frozen=True, kw_only=True, tag="saved"):
    """The episode is durable in the outbox; ``duration_s`` is how long saving took, ``num_bytes`` the size of its files."""

    episode_id: str
    num_bytes: int
    duration_s: float


class Unsaved(msgspec.Struct, frozen=True, kw_only=True, tag="unsaved"):
    """The episode cannot be saved for now (the disk is full): it is tried again until it can."""

    episode_id: str
    sentence: str


class Announced(msgspec.Struct, frozen=True, kw_only=True, tag="announced"):
    """The stream has ``episode.ready`` as message ``seq``, ``delay_s`` after the end of the episode."""

    episode_id: str
    seq: int
    delay_s: float


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """The bus or the store is away: ``num_waiting`` episodes wait on the disk. Told once for each outage."""

    reason: str
    num_waiting: int


class Flowing(msgspec.Struct, frozen=True, kw_only=True, tag="flowing"):
    """The outage is over."""

    num_waiting: int


class HeldBack(msgspec.Struct, frozen=True, kw_only=True, tag="held_back"):
    """The store or the bus does not take the episode: it stays in the outbox and is tried again at the next start."""

    episode_id: str
    sentence: str


class Removed(msgspec.Struct, frozen=True, kw_only=True, tag="removed"):
    """What an earlier recorder was recording when it was killed is gone: ``num_frames`` images over ``duration_s``."""

    episode_id: str
    num_frames: int
    duration_s: float


class Restarted(msgspec.Struct, frozen=True, kw_only=True, tag="restarted"):
    """The saver's process died and was started again; what it had not saved is saved again."""

    sentence: str


SaverNews = Saved | Unsaved | Announced | Waiting | Flowing | HeldBack | Removed | Restarted


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """Between the processes: the saver runs."""


class Counted(msgspec.Struct, frozen=True, kw_only=True, tag="counted"):
    """Between the processes: how many episodes wait in the outbox, and how many of those are held back."""

    num_waiting: int
    num_held_back: int


class Lost(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """Between the processes: the episode cannot be saved, and trying again cannot help."""

    episode_id: str
    sentence: str


class Unusable(msgspec.Struct, frozen=True, kw_only=True, tag="unusable"):
    """Between the processes: the configuration is wrong, the saver ends."""

    sentence: str


FromSaver = Saved | Unsaved | Announced | Waiting | Flowing | HeldBack | Removed | Ready | Counted | Lost | Unusable
