"""Every defect of the corpus gives exactly its sentence, at once, and leaves nothing behind; what is sound in it converts."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from services.converter.assignment import Assignment, Converted
from services.converter.convert import convert
from services.converter.video import JpegDecoder, bgr_image
from shared.config import decode_strategy
from shared.errors import Rejected
from shared.lerobot.check import check_dataset
from tests.corpus.cases import EpisodeCase
from tests.corpus.hostile import EVENTS
from tests.corpus.images import rotated
from tests.corpus.whole import EPISODES, broken_copy
from tests.services.converter.episodes import STRATEGY, jpeg, raw_episode, write_episode

MAX_GROWTH_BYTES = 400 * 1024 * 1024
DEFECTS = [case for case in EPISODES if case.sentence is not None]
SOUND = [case for case in EPISODES if case.sentence is None]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episode(tmp_path_factory.mktemp("original"), seconds=0.6)


def converted(case: EpisodeCase, folder: Path) -> Converted:
    """Convert a case's episode into ``part`` beside the raw episodes, as a service or as a person does."""
    config = decode_strategy(STRATEGY, place="test", overrides=case.overrides)
    raw = msgspec.structs.replace(raw_episode(folder), roots=() if case.is_trusted else (folder.parent,))
    return convert(
        Assignment(source="lab", episode_id=case.name, raw=raw, config=config, folder=folder.parents[1] / "part", task=None),
    )


def refusal(case: EpisodeCase, folder: Path) -> tuple[str, str]:
    """Return class and sentence of the error; the error itself, which keeps what its frames held, is let go."""
    with pytest.raises(Rejected) as caught:
        converted(case, folder)
    return type(caught.value).__name__, str(caught.value)


def named(cases: list[EpisodeCase]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def peak_bytes() -> int:
    """Return the most memory this process has ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def open_files() -> list[str]:
    """Return what this process has open below a temporary folder."""
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sorted(name for name in map(os.path.realpath, links) if "/raw/" in name or "/part/" in name)


@pytest.mark.timeout(10)
@named(DEFECTS)
def test_a_defect_is_refused_with_its_sentence_in_bounded_time_and_memory(case: EpisodeCase, original: Path, tmp_path: Path) -> None:
    folder = broken_copy(case, original, tmp_path / "raw")
    before_bytes, threads = peak_bytes(), threading.active_count()
    error = refusal(case, folder)

    assert error == (case.error_type, case.sentence)
    assert not (tmp_path / "part" / "meta").exists()
    assert peak_bytes() - before_bytes < MAX_GROWTH_BYTES
    assert (open_files(), threading.active_count()) == ([], threads)


@pytest.mark.timeout(20)
@named(SOUND)
def test_what_only_looks_odd_converts_to_a_sound_dataset(case: EpisodeCase, original: Path, tmp_path: Path) -> None:
    folder = broken_copy(case, original, tmp_path / "raw")

    result = converted(case, folder)

    report = check_dataset(tmp_path / "part")
    assert report.problems == ()
    assert report.frames == result.frames == (1 if case.name == "frames_only_one_allowed" else 14)
    assert open_files() == []


@pytest.mark.parametrize("data", [rotated(), jpeg(5) + jpeg(90)], ids=["rotated", "two"])
def test_video_and_statistics_see_the_same_pixels(data: bytes) -> None:
    pixels = JpegDecoder().decode(data).to_ndarray(format="bgr24").astype(float)

    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels - bgr_image(data)).mean() < 4
    assert np.abs(pixels - bgr_image(jpeg(5))).mean() < 4 < np.abs(pixels - bgr_image(jpeg(90))).mean()


def test_the_corpus_is_as_large_as_promised_and_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in EPISODES] + [case.name for case in EVENTS]

    assert len(DEFECTS) + len(EVENTS) >= 40
    assert len(set(names)) == len(names)
    assert all([case.what for case in EPISODES] + [case.what for case in EVENTS])
