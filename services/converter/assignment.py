"""What a conversion is asked for and what it answers: light structs, so that asking costs no codec libraries."""

from __future__ import annotations

from pathlib import Path

import msgspec

from services.converter.report import AlignmentReport
from shared.config import StrategyConfig


class RawEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """The folders of one raw episode: ``joints`` with a parquet file per arm, ``images`` with a folder per camera.

    Attributes:
        episode_id: its name.
        joints, images: the folders.
        roots: below these folders no symbolic link counts, because others put files there; empty: links are followed.
    """

    episode_id: str
    joints: Path
    images: Path
    roots: tuple[Path, ...] = ()

    def name_of(self, path: Path) -> str:
        """Return a path inside the episode as errors and manifests show it (``joints/left.parquet``)."""
        for kind, folder in (("joints", self.joints), ("images", self.images)):
            if path.is_relative_to(folder):
                return kind if path == folder else f"{kind}/{path.relative_to(folder).as_posix()}"
        return str(path)


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be converted, and under which name.

    Attributes:
        source, episode_id: identity of the episode in datasets and counters.
        raw: its folders.
        config: the strategy.
        folder: the part is made here; its parent exists, it does not.
        task: the instruction; None means what the raw episode says.
    """

    source: str
    episode_id: str
    raw: RawEpisode
    config: StrategyConfig
    folder: Path
    task: str | None = None


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    """A finished part: its rows, length in seconds, size, digest and alignment report."""

    frames: int
    duration_s: float
    num_bytes: int
    digest: str
    report: AlignmentReport
