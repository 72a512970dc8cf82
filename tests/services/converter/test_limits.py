"""What one episode may use, and what is said when it wants more."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from services.converter.assignment import Assignment, Converted
from services.converter.limits import Limits, data_mb, is_out_of_memory, out_of_memory, out_of_time
from services.converter.worker import convert_in_process
from shared.errors import BadConfig, BadRaw, WorkerCrashed
from tests.services.converter.episodes import jpeg, raw_episode, strategy, write_episode


@pytest.fixture(scope="module")
def large_episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An episode whose encoders want some hundred megabytes."""
    folder = write_episode(tmp_path_factory.mktemp("large"), seconds=0.6)
    image = jpeg(1, width=1920, height=1080)
    for path in folder.glob("images/*/*.jpg"):
        path.write_bytes(image)
    return folder


def assignment(episode: Path, folder: Path) -> Assignment:
    return Assignment(source="local", episode_id=episode.name, raw=raw_episode(episode), config=strategy(), folder=folder)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_an_episode_beyond_its_memory_is_a_crash_that_names_limit_use_and_key(large_episode: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed, match=r"conversion\.max_memory_mb = 60 MB") as caught:
        await convert_in_process(assignment(large_episode, tmp_path / "part"), limits=Limits(max_memory_mb=60))

    assert "(it had " in str(caught.value)
    assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("max_memory_mb", [1, 30, 60, 120, 180, 400])
async def test_whatever_the_memory_limit_an_episode_is_converted_or_crashes_and_is_never_blamed(
    large_episode: Path, tmp_path: Path, max_memory_mb: int
) -> None:
    outcome: Converted | Exception
    try:
        outcome = await convert_in_process(assignment(large_episode, tmp_path / "part"), limits=Limits(max_memory_mb=max_memory_mb))
    except WorkerCrashed as error:
        outcome = error

    assert isinstance(outcome, Converted) or f"conversion.max_memory_mb = {max_memory_mb} MB" in str(outcome)


async def test_an_episode_beyond_its_time_is_a_crash_that_names_limit_progress_and_key(large_episode: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerCrashed) as caught:
        await convert_in_process(assignment(large_episode, tmp_path / "part"), limits=Limits(max_seconds=0.2))

    assert "longer than conversion.max_seconds = 0.2 s allows (" in str(caught.value)
    assert str(caught.value).endswith("camera frames were encoded until then): raise conversion.max_seconds")
    assert not (tmp_path / "part").exists()


async def test_limits_that_suffice_change_no_byte(tmp_path: Path) -> None:
    episode = write_episode(tmp_path / "raw", seconds=0.4)

    free = await convert_in_process(assignment(episode, tmp_path / "free"))
    limited = await convert_in_process(assignment(episode, tmp_path / "limited"), limits=Limits(max_memory_mb=4000, max_seconds=100))

    assert free == limited
    assert content(tmp_path / "free") == content(tmp_path / "limited")


def chained(cause: Exception) -> Exception:
    error = BadRaw("images/a.jpg", "does not decode")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        chained(MemoryError()),
        chained(OSError(errno.ENOMEM, "x")),
        RuntimeError("can't start new thread"),
        BadConfig("video", "preset", "h264 refuses preset 'medium': Cannot allocate memory"),
    ],
)
def test_lack_of_memory_is_known_by_its_cause_or_its_words(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_no_lack_of_memory() -> None:
    assert not is_out_of_memory(chained(ValueError("is cut off")))


def test_sentences_name_the_key_to_change() -> None:
    assert str(out_of_memory(Limits(max_memory_mb=100), used_mb=99)) == (
        "the conversion of the episode needs more memory than conversion.max_memory_mb = 100 MB allows (it had 99 MB): "
        "raise conversion.max_memory_mb"
    )
    assert "give the host more" in str(out_of_memory(Limits(), used_mb=None))
    assert str(out_of_time(Limits(max_seconds=5), num_frames=7)) == (
        "the conversion of the episode took longer than conversion.max_seconds = 5 s allows (7 camera frames were encoded until then): "
        "raise conversion.max_seconds"
    )


def test_data_of_a_process_is_seen_and_of_none_is_not() -> None:
    assert (data_mb(os.getpid()) or 0) > 10
    assert data_mb(None) is None
