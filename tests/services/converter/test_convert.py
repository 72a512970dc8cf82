"""One raw episode becomes one complete dataset: columns, videos, statistics and manifest against oracles."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from services.converter.assignment import Assignment, Converted
from services.converter.convert import convert, input_digest
from services.converter.video import JpegDecoder, bgr_image
from shared.config import StrategyConfig
from shared.errors import BadRaw, Filtered
from shared.lerobot.check import check_dataset
from tests.services.converter.episodes import ARMS, CAMERAS, NUM_JOINTS, START_US, jpeg, raw_episode, strategy, write_arm, write_episode

FOLLOWERS = {"type": "one_arm", "arms": [{"name": "left_slave", "role": "slave"}], "joints_per_arm": NUM_JOINTS}


def assignment(folder: Path, config: StrategyConfig, *, part: str = "part", task: str | None = None) -> Assignment:
    return Assignment(
        source="local", episode_id=folder.name, raw=raw_episode(folder), config=config, folder=folder.parent / part, task=task
    )


def converted(folder: Path, config: StrategyConfig, *, part: str = "part", task: str | None = None) -> tuple[Path, Converted]:
    made = assignment(folder, config, part=part, task=task)
    result = convert(made)
    return made.folder, result


def column(part: Path, key: str) -> np.ndarray:
    return np.array(pq.read_table(part / "data/chunk-000/episode_000000.parquet")[key].to_pylist())


def info(part: Path) -> dict[str, Any]:
    return json.loads((part / "meta/info.json").read_text())


def manifest(part: Path) -> dict[str, Any]:
    return json.loads((part / "meta/episodeflow/episode_000000.json").read_text())


def frame_times(folder: Path, camera: str) -> np.ndarray:
    return np.array(sorted(int(path.stem) for path in (folder / "images" / camera).iterdir()))


def arm_samples(folder: Path, arm: str) -> tuple[np.ndarray, np.ndarray]:
    table = pq.read_table(folder / "joints" / f"{arm}.parquet")
    values = np.stack([table[f"joint_{index}"].to_numpy() for index in range(NUM_JOINTS)], axis=1)
    return table["timestamps"].to_numpy(), values


def row_times(folder: Path) -> np.ndarray:
    """The base frames inside the time that all streams share."""
    streams = [frame_times(folder, camera) for camera in CAMERAS] + [arm_samples(folder, arm)[0] for arm in ARMS]
    base = frame_times(folder, "cam_base")
    return base[(base >= max(times[0] for times in streams)) & (base <= min(times[-1] for times in streams))]


def nearest(times: np.ndarray, target: float) -> int:
    return int(np.argmin(np.abs(times - target)))


def expected_nearest(folder: Path, arms: tuple[str, ...]) -> np.ndarray:
    parts = []
    for arm in arms:
        times, values = arm_samples(folder, arm)
        parts.append(np.stack([values[nearest(times, row)] for row in row_times(folder)]))
    return np.concatenate(parts, axis=1).astype(np.float32)


def decoded_frames(part: Path, camera: str) -> list[av.VideoFrame]:
    with av.open(str(part / f"videos/chunk-000/observation.images.{camera}/episode_000000.mp4")) as container:
        return list(container.decode(video=0))


def luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width].astype(float)


def test_nearest_takes_the_closest_sample_of_every_arm_in_configured_order(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    part, result = converted(folder, strategy())

    masters, slaves = ("left_master", "right_master"), ("left_slave", "right_slave")
    assert result.frames == len(row_times(folder)) > 20
    np.testing.assert_array_equal(column(part, "action").astype(np.float32), expected_nearest(folder, masters))
    np.testing.assert_array_equal(column(part, "observation.state.slave").astype(np.float32), expected_nearest(folder, slaves))
    np.testing.assert_array_equal(column(part, "observation.state.master").astype(np.float32), expected_nearest(folder, masters))


def test_chunking_takes_the_closest_sample_to_every_step_and_repeats_the_last_valid_one(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    part, _ = converted(folder, strategy(alignment__strategy="chunking", alignment__chunk_size=30))

    expected = []
    for row in row_times(folder):
        steps = []
        for arm in ("left_master", "right_master"):
            times, values = arm_samples(folder, arm)
            wanted = [row + 4000 * step for step in range(30)]
            last = max(step for step in range(30) if wanted[step] <= times[-1])
            steps.append([values[nearest(times, wanted[min(step, last)])] for step in range(30)])
        expected.append(np.concatenate(steps, axis=1))
    np.testing.assert_array_equal(column(part, "action").astype(np.float32), np.array(expected).astype(np.float32))
    assert info(part)["features"]["action"]["shape"] == [30, 2 * NUM_JOINTS]


@pytest.mark.parametrize("aggregation", ["mean", "median"])
def test_window_aggregates_all_samples_around_a_row(tmp_path: Path, aggregation: str) -> None:
    folder = write_episode(tmp_path)
    part, _ = converted(folder, strategy(alignment__strategy="window", alignment__window_ms=20, alignment__aggregation=aggregation))

    expected = []
    for row in row_times(folder):
        inside = []
        for arm in ("left_slave", "right_slave"):
            times, values = arm_samples(folder, arm)
            inside.append(getattr(np, aggregation)(values[np.abs(times - row) <= 20_000], axis=0))
        expected.append(np.concatenate(inside))
    np.testing.assert_allclose(column(part, "observation.state.slave"), np.array(expected), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["nearest", "chunking", "window"])
def test_the_dataset_check_finds_nothing_wrong_with_any_strategy(tmp_path: Path, name: str) -> None:
    part, result = converted(write_episode(tmp_path), strategy(alignment__strategy=name, output__state_keys="both"))

    report = check_dataset(part)
    assert report.problems == ()
    assert (report.episodes, report.frames, report.videos) == (1, result.frames, len(CAMERAS))
    assert result.num_bytes == sum(path.stat().st_size for path in part.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("state_keys", "expected"),
    [
        ("roles", ["observation.state.slave", "observation.state.master"]),
        ("lerobot", ["observation.state"]),
        ("both", ["observation.state", "observation.state.slave", "observation.state.master"]),
    ],
)
def test_state_keys_choose_the_state_columns(tmp_path: Path, state_keys: str, expected: list[str]) -> None:
    part, _ = converted(write_episode(tmp_path, seconds=0.5), strategy(output__state_keys=state_keys))

    features = info(part)["features"]
    assert [key for key in features if key.startswith("observation.state")] == expected
    assert features["action"]["names"] == [f"{arm}_joint_{index}" for arm in ("left_master", "right_master") for index in range(NUM_JOINTS)]


def test_where_no_arm_leads_the_action_is_what_the_followers_do(tmp_path: Path) -> None:
    part, _ = converted(write_episode(tmp_path, seconds=0.5), strategy(robot=FOLLOWERS))

    np.testing.assert_array_equal(column(part, "action"), column(part, "observation.state.slave"))
    assert info(part)["features"]["action"]["shape"] == [NUM_JOINTS]
    assert "observation.state.master" not in info(part)["features"]


def test_every_video_frame_shows_the_jpeg_that_alignment_chose_at_its_exact_time(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    part, result = converted(folder, strategy(video__crf=1))

    decoder = JpegDecoder()
    for camera in CAMERAS:
        times = frame_times(folder, camera)
        frames = decoded_frames(part, camera)
        assert len(frames) == result.frames
        assert [frame.pts * frame.time_base * 25 for frame in frames] == list(range(result.frames))
        for row_us, frame in zip(row_times(folder), frames, strict=True):
            source = decoder.decode((folder / "images" / camera / f"{times[nearest(times, row_us)]}.jpg").read_bytes())
            noise = float(np.mean((luma(frame) - luma(source)) ** 2))
            assert 10 * math.log10(255**2 / max(noise, 1e-9)) > 40


def test_a_uniform_timeline_faster_than_the_camera_repeats_frames_and_says_so(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    part, result = converted(folder, strategy(video__fps=50))

    assert result.report.timeline == "uniform"
    assert result.report.streams["cam_base"].num_repeated == result.frames - len(np.unique(column(part, "timestamp").round(9) // 0.04))
    assert result.report.streams["cam_base"].num_repeated > result.frames // 3
    assert len(decoded_frames(part, "cam_base")) == result.frames
    assert check_dataset(part).problems == ()


def test_statistics_are_those_of_the_rows_and_of_the_shown_jpegs(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    part, result = converted(folder, strategy())

    stats = json.loads((part / "meta/episodes_stats.jsonl").read_text())["stats"]
    action = expected_nearest(folder, ("left_master", "right_master"))
    for key, values in (("min", action.min(0)), ("max", action.max(0)), ("mean", action.mean(0)), ("std", action.std(0))):
        np.testing.assert_allclose(stats["action"][key], values, rtol=1e-5, atol=1e-6)
    times = frame_times(folder, "cam_side")
    chosen = [folder / "images/cam_side" / f"{times[nearest(times, row)]}.jpg" for row in row_times(folder)]
    pixels = np.stack([bgr_image(path.read_bytes())[:, :, ::-1] for path in chosen]) / 255
    image = stats["observation.images.cam_side"]
    assert image["count"] == [result.frames]
    for key, values in (("min", pixels.min((0, 1, 2))), ("mean", pixels.mean((0, 1, 2))), ("std", pixels.std((0, 1, 2)))):
        np.testing.assert_allclose(np.array(image[key]).ravel(), values, rtol=1e-6)


def test_info_names_rate_size_and_codec_of_the_videos(tmp_path: Path) -> None:
    part, result = converted(write_episode(tmp_path, seconds=0.5), strategy())

    found = info(part)
    camera = found["features"]["observation.images.cam_base"]
    assert (found["codebase_version"], found["fps"], found["robot_type"]) == ("v2.1", 25, "two_arms")
    assert (found["total_frames"], found["total_episodes"], found["total_videos"]) == (result.frames, 1, 2)
    assert (camera["dtype"], camera["shape"], camera["info"]["video.codec"]) == ("video", [48, 64, 3], "h264")


def test_the_manifest_holds_the_hash_of_every_raw_file_and_video(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.5)
    part, result = converted(folder, strategy())

    found = manifest(part)
    for group, files in found["raw"].items():
        on_disk = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / group).iterdir() if path.suffix != ".json"
        }
        assert files == on_disk
    video = part / "videos/chunk-000/observation.images.cam_base/episode_000000.mp4"
    assert found["videos"]["observation.images.cam_base"] == hashlib.sha256(video.read_bytes()).hexdigest()
    assert found["digest"] == result.digest == input_digest(assignment(folder, strategy()))


def test_two_conversions_give_the_same_bytes_in_every_file(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.6)
    first, _ = converted(folder, strategy(), part="first")
    second, _ = converted(folder, strategy(), part="second")

    def contents(part: Path) -> dict[str, bytes]:
        return {str(path.relative_to(part)): path.read_bytes() for path in part.rglob("*") if path.is_file()}

    assert contents(first) == contents(second)


@pytest.mark.parametrize("change", ["image", "joints", "recipe", "task"])
def test_the_digest_changes_with_anything_that_decides_the_bytes(tmp_path: Path, change: str) -> None:
    folder = write_episode(tmp_path, seconds=0.3)
    before = input_digest(assignment(folder, strategy()))
    config, task = strategy(), None
    if change == "image":
        next((folder / "images/cam_side").iterdir()).write_bytes(jpeg(99))
    elif change == "joints":
        write_arm(folder / "joints/left_slave.parquet", range(START_US, START_US + 300_000, 5000))
    elif change == "recipe":
        config = strategy(video__crf=30)
    else:
        task = "another"

    assert input_digest(assignment(folder, config, task=task)) != before


def test_places_and_filters_do_not_change_the_digest(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.3)
    other = strategy(output__base_path="/elsewhere", filtering__min_frames=2, input__data_path="/raw")

    assert input_digest(assignment(folder, other)) == input_digest(assignment(folder, strategy()))


def test_the_task_is_the_assignments_then_the_metadatas_then_the_folders(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.3, task="stack blocks")
    by_metadata, _ = converted(folder, strategy(), part="metadata")
    by_event, _ = converted(folder, strategy(), part="event", task="sort")
    (folder / "joints/metadata.json").unlink()
    unknown, _ = converted(folder, strategy(), part="unknown")

    tasks = [json.loads((part / "meta/tasks.jsonl").read_text())["task"] for part in (by_metadata, by_event, unknown)]
    assert tasks == ["stack blocks", "sort", "unspecified"]


def corrupt_header(data: bytes, *, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 9 :]


IMAGE_DEFECTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty (0 bytes), expected a JPEG image"),
    "truncated": (jpeg(3)[:-300], f"is cut off after {len(jpeg(3)) - 300} bytes: the end-of-image marker is missing"),
    "no jpeg": (b"\x89PNG and more", "is no JPEG image: it starts with 89 50 4e 47, expected ff d8"),
    "smaller": (jpeg(3, width=32, height=16), "is 32x16 pixels, the frames before are 64x48"),
    "zero": (corrupt_header(jpeg(3), width=0, height=48), "is 0x48 pixels, expected at least 2x2"),
    "absurd": (
        corrupt_header(jpeg(3), width=65_000, height=65_000),
        "claims 65000x65000 pixels, the limit is 16384 a side and 67108864 in all",
    ),
    "odd": (
        jpeg(3, width=63, height=48),
        "is 63x48 pixels, expected even sides: yuv420p video has one colour sample for 2x2 pixels; crop the camera by one",
    ),
}


@pytest.mark.parametrize("defect", IMAGE_DEFECTS)
@pytest.mark.parametrize("position", ["first", "later"])
def test_a_defective_image_is_refused_by_name(tmp_path: Path, defect: str, position: str) -> None:
    data, problem = IMAGE_DEFECTS[defect]
    if (defect, position) == ("smaller", "first"):
        problem = "is 64x48 pixels, the frames before are 32x16"
    folder = write_episode(tmp_path, seconds=0.4)
    times = frame_times(folder, "cam_base")
    bad = folder / "images/cam_base" / f"{times[0 if position == 'first' else 5]}.jpg"
    bad.write_bytes(data)
    named = times[1] if (defect, position) == ("smaller", "first") else int(bad.stem)

    with pytest.raises(BadRaw) as caught:
        converted(folder, strategy())

    assert str(caught.value) == f"images/cam_base/{named}.jpg: {problem}"


def test_a_grey_jpeg_is_converted_like_any_other(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    for path in (folder / "images/cam_side").iterdir():
        path.write_bytes(jpeg(5, grey=True))
    part, _ = converted(folder, strategy())

    assert check_dataset(part).problems == ()
    assert np.abs(decoded_frames(part, "cam_side")[0].to_ndarray(format="rgb24").astype(int).std(axis=2)).max() < 3


def test_a_cmyk_jpeg_is_refused_with_its_components(tmp_path: Path) -> None:
    data = bytearray(jpeg(1))
    data[data.index(b"\xff\xc0") + 9] = 4
    folder = write_episode(tmp_path, seconds=0.4)
    bad = sorted((folder / "images/cam_base").iterdir())[2]
    bad.write_bytes(data)

    with pytest.raises(BadRaw) as caught:
        converted(folder, strategy())

    assert str(caught.value) == f"images/cam_base/{bad.name}: has 4 colour components (CMYK?), expected 3 (YCbCr) or 1 (grey)"


@pytest.mark.parametrize("gone", ["folder", "frames"])
def test_a_missing_camera_holds_the_episode_back(tmp_path: Path, gone: str) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    for path in (folder / "images/cam_side").iterdir():
        path.unlink()
    if gone == "folder":
        (folder / "images/cam_side").rmdir()

    with pytest.raises(Filtered) as caught:
        converted(folder, strategy())

    assert str(caught.value) == "camera cam_side has no frames; record it again, or set filtering.require_all_cameras: false"


def test_a_camera_that_may_be_missing_is_left_out_of_the_dataset(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    (folder / "images/cam_side").rename(tmp_path / "away")
    part, _ = converted(folder, strategy(filtering__require_all_cameras=False))

    assert [key for key in info(part)["features"] if "images" in key] == ["observation.images.cam_base"]
    assert check_dataset(part).problems == ()


def test_a_missing_base_camera_is_refused_even_where_others_may_do(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    (folder / "images/cam_base").rename(tmp_path / "away")

    with pytest.raises(BadRaw) as caught:
        converted(folder, strategy(filtering__require_all_cameras=False))

    assert str(caught.value) == "images/cam_base: has no frames, but it is the base camera that gives the timeline"


def test_streams_without_common_time_are_refused_with_both_times(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    late = START_US + 5_000_000
    write_arm(folder / "joints/left_slave.parquet", range(late, late + 100_000, 4000))

    with pytest.raises(
        BadRaw, match=rf"^left_slave: begins at {late} us, after cam_\w+ has ended at \d+ us: the streams have no time in com"
    ):
        converted(folder, strategy())


def test_an_episode_whose_every_row_is_a_gap_is_refused_with_the_count(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.4)
    write_arm(folder / "joints/left_slave.parquet", [START_US, START_US + 400_000])

    with pytest.raises(BadRaw, match=r"^episode: gives no row: 9 rows were dropped because a stream was beyond its tolerance$"):
        converted(folder, strategy(alignment__tolerance_ms=1))


def test_frames_at_another_rate_than_fps_are_refused_with_both_rates(tmp_path: Path) -> None:
    with pytest.raises(BadRaw) as caught:
        converted(write_episode(tmp_path), strategy(alignment__timeline="base", video__fps=30))

    assert str(caught.value) == (
        "images/cam_base: came at 25.00 frames per second, but one row per frame at fps 30 would stretch time by 16.7%; "
        "set alignment.timeline: uniform, or the true rate as video.fps and target_fps"
    )


def test_the_measured_joint_rate_can_stand_for_a_configured_one(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.5)
    measured, _ = converted(folder, strategy(alignment__strategy="chunking", alignment__joints_fps="auto"), part="measured")
    stated, _ = converted(folder, strategy(alignment__strategy="chunking", alignment__joints_fps=250), part="stated")

    np.testing.assert_array_equal(column(measured, "action"), column(stated, "action"))


LIMITED = """
import pickle, resource, sys
from services.converter.convert import convert
from shared.errors import DiskFull
assignment = pickle.loads(sys.stdin.buffer.read())
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
try:
    convert(assignment)
except DiskFull as error:
    print(error)
"""


@pytest.mark.parametrize("limit_bytes", [0, 2000])
def test_a_file_that_cannot_grow_is_a_full_disk_and_not_a_crash(tmp_path: Path, limit_bytes: int) -> None:
    import pickle

    made = pickle.dumps(assignment(write_episode(tmp_path, seconds=0.4), strategy()))
    child = subprocess.run([sys.executable, "-c", LIMITED, str(limit_bytes)], input=made, capture_output=True, timeout=60, check=False)

    assert child.stdout.decode().strip() == f"{tmp_path}: no room for the dataset (File too large); make room, the episode is tried again"
    assert (child.returncode, child.stderr) == (0, b"")


def test_images_are_never_written_by_the_conversion(tmp_path: Path) -> None:
    part, _ = converted(write_episode(tmp_path, seconds=0.3), strategy())

    assert {path.suffix for path in part.rglob("*") if path.is_file()} == {".mp4", ".parquet", ".json", ".jsonl"}
    assert cv2.haveImageReader(str(next(part.rglob("*.mp4")))) is False
