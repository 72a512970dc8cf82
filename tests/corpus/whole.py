"""The whole corpus, in the order of the table."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.corpus.cases import EpisodeCase
from tests.corpus.folders import CAMERAS, LINKS
from tests.corpus.images import IMAGES
from tests.corpus.joints import JOINTS
from tests.corpus.metadata import METADATA
from tests.corpus.overrides import OVERRIDES

EPISODES: tuple[EpisodeCase, ...] = tuple(case for group in (IMAGES, JOINTS, CAMERAS, LINKS, METADATA, OVERRIDES) for case in group.cases)


def broken_copy(case: EpisodeCase, sound: Path, root: Path) -> Path:
    """Copy a sound episode below ``root`` under the case's name, change it, and return it."""
    folder = root / case.name
    shutil.copytree(sound, folder)
    case.change(folder)
    return folder
