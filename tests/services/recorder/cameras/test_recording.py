"""The files of one camera during one episode."""

import os
import threading
from pathlib import Path

import pytest

from services.recorder.cameras.errors import CameraUnreachable
from services.recorder.cameras.recording import Recording


def recording_in(folder: Path, problems: list[str], *, capacity: int = 256) -> Recording:
    return Recording(folder, fps=30, start_us=1000, on_problem=problems.append, capacity=capacity)


def test_every_frame_becomes_a_file_named_by_its_time(tmp_path: Path) -> None:
    problems: list[str] = []
    recording = recording_in(tmp_path / "left", problems)
    for index in range(100):
        recording.offer(1000 + index * 33_333, b"frame %d" % index)

    report = recording.close(end_us=1000 + 100 * 33_333)

    assert {path.name: path.read_bytes() for path in (tmp_path / "left").iterdir()} == {
        f"{1000 + index * 33_333}.jpg": b"frame %d" % index for index in range(100)
    }
    assert (report.num_frames, report.num_lost, report.num_repeated, report.problem, problems) == (100, 0, 0, None, [])


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    recording = recording_in(tmp_path / "left", [])
    unfinished = tmp_path / "left" / ".part-1000.jpg"
    os.mkfifo(unfinished)
    frame = bytes(1_000_000)  # far more than a pipe holds: the writer waits until it is read
    recording.offer(1000, frame)
    with unfinished.open("rb") as pipe:  # the writer has opened it, too
        named_meanwhile = list((tmp_path / "left").iterdir())
        content = pipe.read()

    recording.close(end_us=2000)
    assert (content, named_meanwhile) == (frame, [unfinished])
    assert [path.name for path in (tmp_path / "left").iterdir()] == ["1000.jpg"]


def test_only_frames_between_start_and_end_are_wanted(tmp_path: Path) -> None:
    recording = recording_in(tmp_path, [])
    recording.end_at(2000)

    assert [recording.wants(time_us) for time_us in (999, 1000, 2000, 2001)] == [False, True, True, False]
    recording.discard()


def test_a_disk_that_is_too_slow_loses_frames_that_are_counted_and_told_once(tmp_path: Path) -> None:
    problems: list[str] = []
    recording = recording_in(tmp_path / "left", problems, capacity=2)
    # Nobody reads the pipe: the writer stands still, as with a disk that does not answer.
    stuck = tmp_path / "left" / ".part-1000.jpg"
    os.mkfifo(stuck)
    recording.offer(1000, b"stuck")
    for index in range(1, 10):
        recording.offer(1000 + index, b"%d" % index)
    reading = threading.Thread(target=stuck.read_bytes)
    reading.start()

    report = recording.close(end_us=2000)
    reading.join()

    assert report.num_frames + report.num_lost == 10
    assert report.num_lost in {7, 8}  # whether the writer had taken the first one already
    assert report.problem
    assert "camera left: the disk is too slow: 2 frames wait" in report.problem
    assert problems == [report.problem]


def test_a_frame_that_cannot_be_written_is_lost_and_named(tmp_path: Path) -> None:
    problems: list[str] = []
    recording = recording_in(tmp_path / "left", problems)
    (tmp_path / "left").rmdir()
    recording.offer(1000, b"frame")

    report = recording.close(end_us=2000)

    assert (report.num_frames, report.num_lost) == (0, 1)
    assert problems == [report.problem]
    assert report.problem
    assert "1000.jpg cannot be written: No such file or directory" in report.problem


def test_damaged_and_repeated_frames_are_counted(tmp_path: Path) -> None:
    recording = recording_in(tmp_path / "left", [])
    for time_us, data in ((1000, b"a"), (2000, b"a"), (3000, b"b")):
        recording.offer(time_us, data)
    recording.count_damaged(4000, "is cut off after 7 bytes")

    report = recording.close(end_us=5000)

    assert (report.num_frames, report.num_repeated, report.num_damaged) == (3, 1, 1)
    assert report.problem
    assert "camera left: the frame of 4000 us arrived damaged and is not kept: it is cut off" in report.problem


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "left").write_text("a file is in the way")

    with pytest.raises(CameraUnreachable, match=r"left cannot be made: File exists"):
        recording_in(tmp_path / "left", [])


def test_a_discarded_recording_ends_at_once(tmp_path: Path) -> None:
    recording = recording_in(tmp_path / "left", [])

    recording.discard()
    recording.offer(1000, b"late")

    assert list((tmp_path / "left").iterdir()) == []
