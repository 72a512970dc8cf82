"""What a video says of itself."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from shared.errors import BadDataset
from shared.lerobot.movies import Movie, movie_problems, read_frames, read_movie
from tests.shared.lerobot.parts import images, write_video


def problems(movie: Movie, **changes: object) -> list[str]:
    expected = {"num_frames": 20, "fps": 30, "height": 48, "width": 64, "codec": "h264", "pix_fmt": "yuv420p", **changes}
    return movie_problems(movie, **expected)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_video(tmp_path / "camera.mp4", images(20))
    return tmp_path / "camera.mp4"


@pytest.mark.parametrize("decode", [False, True])
def test_packets_and_frames_tell_the_same_times(path: Path, decode: bool) -> None:
    movie = read_movie(path, decode=decode)

    assert (movie.height, movie.width, movie.codec, movie.pix_fmt, movie.fps) == (48, 64, "h264", "yuv420p", 30)
    assert [pts * movie.tick_s for pts in movie.pts] == [Fraction(index, 30) for index in range(20)]
    assert problems(movie) == []


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_other_codecs_go_by_their_ffmpeg_name(tmp_path: Path, codec: str) -> None:
    write_video(tmp_path / "camera.mp4", images(20), codec=codec)

    movie = read_movie(tmp_path / "camera.mp4")

    assert movie.codec == {"libx265": "hevc", "libsvtav1": "av1"}[codec]
    assert problems(movie, codec=movie.codec) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_frames": 21}, "has 20 frames, the episode has 21 rows"),
        ({"width": 32}, "is 64x48, info.json says 32x48"),
        ({"codec": "av1"}, "is h264, info.json says av1"),
        ({"pix_fmt": "yuv444p"}, "is yuv420p, info.json says yuv444p"),
    ],
)
def test_a_movie_that_differs_from_its_dataset_is_one_sentence(path: Path, changes: dict[str, object], sentence: str) -> None:
    assert problems(read_movie(path), **changes) == [sentence]


def test_another_rate_shows_in_rate_and_times(path: Path) -> None:
    assert problems(read_movie(path), fps=25) == [
        "runs at 30 fps, info.json says 25",
        "frame 1 is shown at 0.033333 s, expected 1/25 = 0.040000 s",
    ]


def test_a_frame_shown_late_is_found(path: Path) -> None:
    movie = read_movie(path)
    shifted = Movie(
        **{name: getattr(movie, name) for name in movie.__struct_fields__ if name != "pts"}, pts=(*movie.pts[:-1], movie.pts[-1] + 9)
    )

    assert problems(shifted) == ["frame 19 is shown at 0.633919 s, expected 19/30 = 0.633333 s"]


def test_frames_are_decoded_in_order(path: Path) -> None:
    found = list(read_frames(path))

    assert len(found) == 20
    assert np.abs(np.stack(found).astype(int) - np.stack(images(20)).astype(int)).mean() < 5


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "camera.mp4").write_bytes(content)

    with pytest.raises(BadDataset, match=r"camera\.mp4: does not decode as a video"):
        read_movie(tmp_path / "camera.mp4")
    with pytest.raises(BadDataset, match=r"camera\.mp4: does not decode as a video"):
        list(read_frames(tmp_path / "camera.mp4"))


def test_a_frame_whose_start_is_damaged_is_found_by_decoding(tmp_path: Path) -> None:
    path = tmp_path / "camera.mp4"
    write_video(path, images(20))
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][10]
    content = bytearray(path.read_bytes())
    content[place : place + 16] = bytes(16)
    path.write_bytes(content)

    assert len(read_movie(path).pts) == 20
    with pytest.raises(BadDataset, match="does not decode as a video"):
        read_movie(path, decode=True)
