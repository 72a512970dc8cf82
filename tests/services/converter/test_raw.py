"""Raw episodes are found in both layouts, and every defective file is refused with a sentence that names it."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.converter import raw
from services.converter.assignment import RawEpisode
from services.converter.raw import ArmSamples, file_digest, find_episodes, list_frames, read_metadata
from shared.episode import ArmConfig, RawMetadata
from shared.errors import BadRaw

ARM = ArmConfig(name="left", role="slave")
NUM_JOINTS = 2
START_US = 1_700_000_000_000_000


def episode_at(folder: Path) -> RawEpisode:
    (folder / "joints").mkdir(parents=True)
    (folder / "images").mkdir()
    return RawEpisode(episode_id=folder.name, joints=folder / "joints", images=folder / "images")


def table(times_us: list[int] | np.ndarray, **columns: object) -> pa.Table:
    joints = {f"joint_{index}": np.arange(len(times_us), dtype=float) + index for index in range(NUM_JOINTS)}
    return pa.table({"timestamps": np.asarray(times_us, np.int64), **joints, **columns})


def read(episode: RawEpisode, content: pa.Table | None = None) -> tuple[np.ndarray, np.ndarray]:
    if content is not None:
        pq.write_table(content, episode.joints / ARM.file_name)
    with closing(ArmSamples(episode, ARM, NUM_JOINTS)) as samples:
        batches = list(samples.batches())
    return np.concatenate([times for times, _ in batches]), np.concatenate([values for _, values in batches])


def refusal(episode: RawEpisode, content: pa.Table | None = None) -> str:
    with pytest.raises(BadRaw) as caught:
        read(episode, content)
    return str(caught.value)


def local(root: Path, task: str, name: str) -> None:
    (root / "joints" / task / name).mkdir(parents=True)
    pq.write_table(table([1]), root / "joints" / task / name / "left.parquet")
    (root / "images" / task / name).mkdir(parents=True)


def bucket(root: Path, name: str) -> None:
    (root / name / "joints").mkdir(parents=True)
    pq.write_table(table([1]), root / name / "joints" / "left.parquet")
    (root / name / "images").mkdir()


# --- where episodes are ---


@pytest.mark.parametrize("below", [".", "joints", "joints/stack"])
def test_the_local_layout_is_found_from_its_root_its_joints_and_its_task(tmp_path: Path, below: str) -> None:
    local(tmp_path, "stack", "episode_0002")
    local(tmp_path, "stack", "episode_0001")

    found = find_episodes(tmp_path / below, tmp_path if below == "." else tmp_path / below.replace("joints", "images"))
    assert list(found) == ["episode_0001", "episode_0002"]
    assert found["episode_0001"].joints == tmp_path / "joints/stack/episode_0001"
    assert found["episode_0001"].images == tmp_path / "images/stack/episode_0001"


@pytest.mark.parametrize("below", ["joints", "joints/stack"])
def test_one_path_into_the_joints_finds_the_images_beside_them(tmp_path: Path, below: str) -> None:
    local(tmp_path, "stack", "episode_0001")

    found = find_episodes(tmp_path / below, tmp_path / below)

    assert found["episode_0001"].images == tmp_path / "images/stack/episode_0001"


def test_images_may_lie_below_another_root(tmp_path: Path) -> None:
    local(tmp_path / "a", "stack", "episode_0001")
    (tmp_path / "b/images/stack/episode_0001").mkdir(parents=True)

    assert find_episodes(tmp_path / "a", tmp_path / "b")["episode_0001"].images == tmp_path / "b/images/stack/episode_0001"


@pytest.mark.parametrize("below", [".", "ep_1"])
def test_the_bucket_layout_is_found_from_its_prefix_and_from_one_episode(tmp_path: Path, below: str) -> None:
    bucket(tmp_path, "ep_1")

    found = find_episodes(tmp_path / below, tmp_path / below)
    assert list(found) == ["ep_1"]
    assert (found["ep_1"].joints, found["ep_1"].images) == (tmp_path / "ep_1/joints", tmp_path / "ep_1/images")


def test_an_episode_without_joints_is_found_so_that_it_fails_by_name(tmp_path: Path) -> None:
    bucket(tmp_path, "ep_1")
    (tmp_path / "ep_2/images").mkdir(parents=True)
    (tmp_path / ".hidden/joints").mkdir(parents=True)

    assert list(find_episodes(tmp_path, tmp_path)) == ["ep_1", "ep_2"]


def test_equal_names_of_several_tasks_are_told_apart_by_task(tmp_path: Path) -> None:
    for task, name in (("a", "same"), ("b", "same"), ("b", "own")):
        local(tmp_path, task, name)

    assert list(find_episodes(tmp_path, tmp_path)) == ["a/same", "b/same", "own"]


def test_a_missing_folder_and_one_without_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRaw) as missing:
        find_episodes(tmp_path / "none", tmp_path)
    with pytest.raises(BadRaw) as empty:
        find_episodes(tmp_path, tmp_path)

    assert str(missing.value) == f"{tmp_path}/none: is no folder, expected raw episodes; set input.data_path or give --input"
    assert str(empty.value) == (
        f"{tmp_path}: holds no raw episode, expected joints/{{task}}/{{episode}}/*.parquet or {{episode}}/joints/*.parquet"
    )


# --- joints ---


def test_samples_come_as_written_over_all_batches(tmp_path: Path) -> None:
    num_samples = 2 * raw.BATCH_SAMPLES + 5
    times = START_US + 4000 * np.arange(num_samples)

    read_times, values = read(episode_at(tmp_path / "e"), table(times, note=["x"] * num_samples))
    np.testing.assert_array_equal(read_times, times)
    np.testing.assert_array_equal(values[:, 1], np.arange(num_samples) + 1.0)


def test_float32_joints_are_accepted(tmp_path: Path) -> None:
    _, values = read(episode_at(tmp_path / "e"), table([1, 2]).set_column(1, "joint_0", pa.array([0.5, 1.5], pa.float32())))

    assert values.dtype == np.float64
    assert values[:, 0].tolist() == [0.5, 1.5]


def test_a_missing_file_is_refused_with_those_that_are_there(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    nothing = refusal(episode)
    pq.write_table(table([1]), episode.joints / "arm.parquet")

    expected = "joints/left.parquet: is missing (found {}), expected the samples of arm left; robot.arms names the files"
    assert [nothing, refusal(episode)] == [expected.format("no parquet file"), expected.format("arm.parquet")]


@pytest.mark.parametrize("size", [0, 3, 8, 400])
def test_a_cut_off_file_is_refused_with_its_size(tmp_path: Path, size: int) -> None:
    episode = episode_at(tmp_path / "e")
    path = episode.joints / ARM.file_name
    pq.write_table(table([1, 2, 3]), path)
    path.write_bytes(path.read_bytes()[:size])

    sentence = refusal(episode)
    assert sentence.startswith(f"joints/left.parquet: is no whole parquet file ({size} bytes): ")
    assert sentence.endswith("; copy it again")


def test_a_file_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    path = episode.joints / ARM.file_name
    pq.write_table(table(START_US + np.arange(5000)), path)
    data = bytearray(path.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    path.write_bytes(data)

    assert refusal(episode).startswith(f"joints/left.parquet: is no whole parquet file ({len(data)} bytes): ")


def test_missing_columns_are_refused_with_those_found(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")

    assert refusal(episode, pa.table({"time": [1], "joint_0": [0.0]})) == (
        "joints/left.parquet: has no column timestamps, joint_1 (found time, joint_0)"
    )


def test_more_joints_than_configured_are_refused(tmp_path: Path) -> None:
    assert refusal(episode_at(tmp_path / "e"), table([1], joint_2=[0.0])) == (
        "joints/left.parquet: has a column joint_2, but robot.joints_per_arm is 2: correct the configuration"
    )


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    content = pa.Table.from_arrays(
        [pa.array([1]), pa.array([0.0]), pa.array([0.0]), pa.array([1.0])], ["timestamps", *["joint_0"] * 2, "joint_1"]
    )

    assert refusal(episode_at(tmp_path / "e"), content) == "joints/left.parquet: has the column joint_0 twice, expected every name once"


@pytest.mark.parametrize(
    ("column", "values", "problem"),
    [
        ("timestamps", pa.array([1.0, 2.0]), "column timestamps is double, expected int64 microseconds"),
        ("timestamps", pa.array([1, 2], pa.timestamp("us")), "column timestamps is timestamp[us], expected int64 microseconds"),
        ("joint_1", pa.array(["a", "b"]), "column joint_1 is string, expected float64"),
        ("joint_1", pa.array([1, 2]), "column joint_1 is int64, expected float64"),
        ("joint_1", pa.array([0.5, None]), "column joint_1 has no value in row 1"),
        ("timestamps", pa.array([None, 2], pa.int64()), "column timestamps has no value in row 0"),
        ("joint_0", pa.array([np.nan, 1.0]), "column joint_0 is nan in row 0, expected a finite number"),
        ("joint_1", pa.array([0.0, -np.inf]), "column joint_1 is -inf in row 1, expected a finite number"),
        ("joint_1", pa.array([0.0, 1e39]), "column joint_1 is 1e+39 in row 1, expected a finite number"),
    ],
)
def test_a_wrong_type_or_value_is_refused_with_its_place(tmp_path: Path, column: str, values: pa.Array, problem: str) -> None:
    content = table([1, 2])

    assert refusal(episode_at(tmp_path / "e"), content.set_column(content.schema.get_field_index(column), column, values)) == (
        f"joints/left.parquet: {problem}"
    )


@pytest.mark.parametrize("row", [1, raw.BATCH_SAMPLES - 1, raw.BATCH_SAMPLES, raw.BATCH_SAMPLES + 1])
@pytest.mark.parametrize("kind", ["twice", "before", "nan"])
def test_defects_are_found_in_the_right_row_on_both_sides_of_a_batch_border(tmp_path: Path, row: int, kind: str) -> None:
    content = table(START_US + 10 * np.arange(raw.BATCH_SAMPLES + 2))
    times, joint = content["timestamps"].to_numpy().copy(), content["joint_0"].to_numpy().copy()
    if kind == "nan":
        joint[row] = np.nan
    else:
        times[row] = times[row - 1] - (5 if kind == "before" else 0)
    previous = times[row - 1]
    content = content.set_column(0, "timestamps", pa.array(times)).set_column(1, "joint_0", pa.array(joint))

    problem = {
        "twice": f"has the timestamp {previous} twice in row {row}, expected strictly increasing timestamps",
        "before": f"has the timestamp {previous - 5} after {previous} in row {row}, expected strictly increasing timestamps",
        "nan": f"column joint_0 is nan in row {row}, expected a finite number",
    }[kind]
    assert refusal(episode_at(tmp_path / "e"), content) == f"joints/left.parquet: {problem}"


@pytest.mark.parametrize("time", [-1, START_US * 1000, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
@pytest.mark.parametrize("row", [0, 1, raw.BATCH_SAMPLES])
def test_times_that_are_no_microseconds_since_1970_are_refused(tmp_path: Path, time: int, row: int) -> None:
    times = START_US + np.arange(raw.BATCH_SAMPLES + 1)
    times[row] = time

    assert refusal(episode_at(tmp_path / "e"), table(times)) == (
        f"joints/left.parquet: has the timestamp {time}, expected microseconds between 1970 and 2100"
    )


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    assert refusal(episode_at(tmp_path / "e"), table([])) == "joints/left.parquet: has no samples, expected at least one row"


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    path = episode.joints / ARM.file_name
    pq.write_table(table([]), path)

    with pytest.raises(BadRaw):
        ArmSamples(episode, ARM, NUM_JOINTS)

    assert str(path) not in [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()]


def test_reading_a_long_file_takes_no_more_memory_than_reading_a_short_one(tmp_path: Path) -> None:
    def peak_bytes(num_samples: int) -> int:
        episode = episode_at(tmp_path / str(num_samples))
        noise = np.random.default_rng(0).normal(size=num_samples)
        content = table(START_US + 4000 * np.arange(num_samples)).set_column(1, "joint_0", pa.array(noise))
        pq.write_table(content, episode.joints / ARM.file_name)
        del content, noise
        pool, before = pa.system_memory_pool(), pa.default_memory_pool()
        pa.set_memory_pool(pool)
        most = 0
        try:
            with closing(ArmSamples(episode, ARM, NUM_JOINTS)) as samples:
                for _ in samples.batches():
                    most = max(most, pool.bytes_allocated())
        finally:
            pa.set_memory_pool(before)
        return most

    short, long = peak_bytes(50_000), peak_bytes(800_000)
    assert 0 < long < short + 4 * 1024 * 1024


# --- metadata ---


def test_metadata_is_optional_and_its_other_keys_are_ignored(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    absent = read_metadata(episode)
    (episode.joints / "metadata.json").write_text('{"task": "stack", "operator": {"id": 7}}')

    assert absent == RawMetadata()
    assert read_metadata(episode) == RawMetadata(task="stack")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"task": ', "Input data was truncated"),
        (b"", "Input data was truncated"),
        (b'{"task": 7}', "Expected `str | null`, got `int` - at `$.task`"),
        (b'["task"]', "Expected `object`, got `array`"),
        (b'{"task": "\xff"}', "invalid start byte|Invalid UTF-8"),
        (b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion"),
    ],
)
def test_metadata_that_is_no_json_object_of_texts_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    episode = episode_at(tmp_path / "e")
    (episode.joints / "metadata.json").write_bytes(content)

    with pytest.raises(BadRaw) as caught:
        read_metadata(episode)

    sentence = str(caught.value)
    assert sentence.startswith("joints/metadata.json: is not valid: ")
    assert sentence.endswith("; expected a JSON object, or no file at all")
    assert any(word in sentence for word in problem.split("|"))


def test_huge_metadata_is_refused_before_it_is_read(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")
    with (episode.joints / "metadata.json").open("wb") as file:
        file.truncate(2 * 1024**2)

    with pytest.raises(BadRaw) as caught:
        read_metadata(episode)

    assert str(caught.value) == "joints/metadata.json: has 2097152 bytes, the limit is 1048576"


# --- frames ---


def frames_of(episode: RawEpisode, *names: str) -> raw.CameraFrames | None:
    (episode.images / "cam").mkdir(exist_ok=True)
    for name in names:
        (episode.images / "cam" / name).write_bytes(b"")
    return list_frames(episode, "cam")


def test_frames_are_listed_in_time_order_whatever_their_names_length_or_suffix(tmp_path: Path) -> None:
    frames = frames_of(episode_at(tmp_path / "e"), "1000.jpg", "999.JPG", "5.jpeg", "notes.txt", ".5.jpg.tmp")

    assert frames is not None
    assert frames.times_us.tolist() == [5, 999, 1000]
    assert [frames.path(index).name for index in range(3)] == ["5.jpeg", "999.JPG", "1000.jpg"]


def test_no_folder_and_no_frame_are_no_camera(tmp_path: Path) -> None:
    episode = episode_at(tmp_path / "e")

    assert list_frames(episode, "cam") is None
    assert frames_of(episode, "readme.md") is None


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("frame_1.jpg", "frame_1.jpg"),
        ("-5.jpg", "-5.jpg"),
        ("1.5.jpg", "1.5.jpg"),
        (f"{START_US}000.jpg", f"{START_US}000.jpg"),
        ("4102444800000001.jpg", "4102444800000001.jpg"),
        ("\u0661\u0662\u0663.jpg", "\u0661\u0662\u0663.jpg"),
        (os.fsdecode(b"\xff.jpg"), "\\udcff.jpg"),
    ],
)
def test_a_frame_that_is_not_named_by_microseconds_is_refused(tmp_path: Path, name: str, shown: str) -> None:
    with pytest.raises(BadRaw) as caught:
        frames_of(episode_at(tmp_path / "e"), name)

    assert str(caught.value) == (
        f"images/cam/{shown}: is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
    )


def test_two_frames_of_one_timestamp_are_refused_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(BadRaw) as caught:
        frames_of(episode_at(tmp_path / "e"), "7.jpg", "007.jpg")

    assert str(caught.value) == ("images/cam/7.jpg: has the same timestamp as 007.jpg, expected one frame per timestamp: remove one")


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)

    assert file_digest(tmp_path / "file") == hashlib.sha256(b"x" * 1_000_000).hexdigest()
