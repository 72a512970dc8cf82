"""Videos show the JPEG's own colours, at exactly i/fps, in the same bytes every time."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from services.converter.video import JpegDecoder, VideoWriter, bgr_image, limited_range
from shared.config import VideoConfig
from shared.errors import BadConfig
from tests.services.converter.episodes import jpeg


def write_video(path: Path, images: list[bytes], config: VideoConfig, *, fps: int = 25) -> bytes:
    decoder = JpegDecoder()
    first = decoder.decode(images[0])
    with VideoWriter(path, width_px=first.width, height_px=first.height, fps=fps, config=config) as writer:
        for image in images:
            writer.write(decoder.decode(image))
    return path.read_bytes()


def shown_bgr(frame: av.VideoFrame) -> np.ndarray:
    """Convert a limited-range BT.601 frame to BGR in floating point, as the tags say (a fast player rounds)."""
    planes = [
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float) for plane in frame.planes
    ]
    luma = (planes[0] - 16) * 255 / 219
    blue, red = ((plane.repeat(2, axis=0).repeat(2, axis=1) - 128) * 255 / 224 for plane in planes[1:])
    return np.stack([luma + 1.772 * blue, luma - 0.344136 * blue - 0.714136 * red, luma + 1.402 * red], axis=2)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_every_codec_shows_the_colours_of_the_jpegs(tmp_path: Path, codec: str) -> None:
    images = [jpeg(index, width=320, height=240) for index in range(5)]
    config = VideoConfig(codec=codec, preset="8" if codec == "av1" else "veryfast", crf=4)
    write_video(tmp_path / "video.mp4", images, config)

    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.streams.video[0].codec_context.name.removeprefix("lib").startswith({"av1": "dav1d"}.get(codec, codec))
        for image, frame in zip(images, container.decode(video=0), strict=True):
            shift = shown_bgr(frame) - bgr_image(image)
            assert np.abs(shift.mean(axis=(0, 1))).max() < 0.5


def test_frames_are_presented_at_exactly_their_index_over_fps(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", [jpeg(index) for index in range(60)], VideoConfig(preset="medium"), fps=30)

    with av.open(str(tmp_path / "video.mp4")) as container:
        times = [Fraction(frame.pts) * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(index, 30) for index in range(60)]


def test_the_stream_is_tagged_as_bt601_limited_range_yuv420p(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", [jpeg(1)], VideoConfig())

    with av.open(str(tmp_path / "video.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.pix_fmt, codec.color_range, codec.colorspace) == ("yuv420p", 1, 6)


def test_a_keyframe_comes_every_second_unless_configured(tmp_path: Path) -> None:
    images = [jpeg(0)] * 30
    write_video(tmp_path / "second.mp4", images, VideoConfig(), fps=10)
    write_video(tmp_path / "two.mp4", images, VideoConfig(gop=2), fps=10)

    def keyframes(name: str) -> list[int]:
        with av.open(str(tmp_path / name)) as container:
            return [index for index, frame in enumerate(container.decode(video=0)) if frame.key_frame]

    assert keyframes("second.mp4") == [0, 10, 20]
    assert keyframes("two.mp4") == list(range(0, 30, 2))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_the_same_images_give_the_same_bytes(tmp_path: Path, codec: str) -> None:
    images = [jpeg(index) for index in range(20)]
    config = VideoConfig(codec=codec, preset="10" if codec == "av1" else "medium")

    assert write_video(tmp_path / "a.mp4", images, config) == write_video(tmp_path / "b.mp4", images, config)


@pytest.mark.parametrize("sampling", [cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444])
def test_other_chroma_samplings_keep_their_colours(sampling: int) -> None:
    image = np.full((48, 64, 3), (40, 90, 200), np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1].tobytes()

    frame = JpegDecoder().decode(data)

    assert frame.format.name == "yuv420p"
    np.testing.assert_allclose(frame.to_ndarray(format="bgr24").mean(axis=(0, 1)), (40, 90, 200), atol=3)


def test_a_grey_image_becomes_a_frame_without_colour() -> None:
    frame = JpegDecoder().decode(jpeg(7, grey=True))

    assert frame.format.name == "yuv420p"
    assert np.abs(np.frombuffer(frame.planes[1], np.uint8).astype(int) - 128).max() <= 1


def test_every_level_is_mapped_to_the_nearest_one_of_the_limited_range() -> None:
    levels = np.arange(256, dtype=np.uint8)
    frame = av.VideoFrame(256, 2, "yuvj420p")
    for plane in frame.planes:
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] = levels[: plane.width] + (
            256 - plane.width
        )
    luma, *chroma = [np.frombuffer(plane, np.uint8)[: plane.width].tolist() for plane in limited_range(frame).planes]

    assert luma == [round(16 + level * 219 / 255) for level in range(256)]
    assert chroma == [[round(128 + (level - 128) * 224 / 255) for level in range(128, 256)]] * 2


def test_full_range_ends_are_mapped_to_limited_range_ends() -> None:
    black = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    white = cv2.imencode(".jpg", np.full((16, 16, 3), 255, np.uint8))[1].tobytes()
    decoder = JpegDecoder()

    assert np.frombuffer(decoder.decode(black).planes[0], np.uint8)[:16].tolist() == [16] * 16
    assert np.frombuffer(decoder.decode(white).planes[0], np.uint8)[:16].tolist() == [235] * 16


def test_a_damaged_scan_is_an_error_and_not_a_grey_patch() -> None:
    data = bytearray(jpeg(3, width=320, height=240))
    middle = len(data) // 2
    data[middle : middle + 300] = os.urandom(300)

    with pytest.raises(ValueError, match="does not decode as JPEG"):
        JpegDecoder().decode(bytes(data))


def test_a_decoder_goes_on_after_a_damaged_image() -> None:
    decoder = JpegDecoder()
    with pytest.raises(ValueError, match="cut off"):
        decoder.decode(jpeg(1)[:-200])

    assert decoder.decode(jpeg(1)).width == 64


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (VideoConfig(preset="quick"), "video: preset: h264 has no preset 'quick', expected one of ultrafast, .*placebo"),
        (VideoConfig(codec="av1", preset="medium"), "video: preset: av1 has no preset 'medium', expected one of 0, 1, .*13"),
        (VideoConfig(codec="hevc", crf=52), "video: crf: is 52, hevc takes 0 to 51"),
    ],
)
def test_settings_that_the_encoder_does_not_know_are_refused(tmp_path: Path, config: VideoConfig, sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        VideoWriter(tmp_path / "video.mp4", width_px=64, height_px=48, fps=25, config=config)


@pytest.mark.parametrize(
    "preset", ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"]
)
def test_every_preset_that_is_offered_opens(tmp_path: Path, preset: str) -> None:
    assert write_video(tmp_path / "video.mp4", [jpeg(1)], VideoConfig(preset=preset))
