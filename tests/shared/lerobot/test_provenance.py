"""A dataset against its manifests and raw files: every flipped byte is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.converter.assignment import Assignment
from services.converter.convert import convert
from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.provenance import RawFolders, read_manifest, rows_digest, sealed, verify_provenance
from tests.services.converter.episodes import raw_episode, strategy, write_episode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two raw episodes and the dataset made from them, to be copied by every test."""
    root = tmp_path_factory.mktemp("made")
    for name in ("ep_1", "ep_2"):
        folder = write_episode(root / "raw", name, seconds=0.4, task="stack")
        convert(Assignment(source="lab", episode_id=name, raw=raw_episode(folder), config=strategy(), folder=root / f"part_{name}"))
        commit(root / f"part_{name}", root / "dataset")
    return root


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    for name in ("raw", "dataset"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def finder(root: Path) -> Callable[[str, str], RawFolders | None]:
    def find(_source: str, episode_id: str) -> RawFolders | None:
        folder = root / episode_id
        return RawFolders(joints=folder / "joints", images=folder / "images") if folder.is_dir() else None

    return find


def problems(lab: Path, *, with_raw: bool = False) -> list[tuple[str, str]]:
    found = verify_provenance(lab / "dataset", raw=finder(lab / "raw") if with_raw else None)
    return [(problem.path, problem.problem) for problem in found.problems]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_untouched_dataset_has_no_problem_and_every_file_was_hashed(lab: Path) -> None:
    found = verify_provenance(lab / "dataset", raw=finder(lab / "raw"))

    num_raw = sum(path.is_file() for path in (lab / "raw").rglob("*"))
    assert (found.problems, found.episodes, found.files) == ((), 2, 2 * (2 + 1) + num_raw)


@pytest.mark.parametrize("kind", ["joints/left_slave.parquet", "joints/metadata.json", "images/cam_side/*.jpg", "images/cam_base/*.jpg"])
def test_flipped_byte_in_a_raw_file_is_named(lab: Path, kind: str) -> None:
    path = sorted((lab / "raw/ep_2").glob(kind))[-1]
    flip(path, path.stat().st_size // 2)

    [(name, problem)] = problems(lab, with_raw=True)

    assert name == path.relative_to(lab / "raw").as_posix()
    assert "SHA-256 differs" in problem
    assert problems(lab) == []


def test_missing_and_extra_raw_files_are_named(lab: Path) -> None:
    frames = sorted((lab / "raw/ep_1/images/cam_base").iterdir())
    frames[3].rename(frames[3].with_name("1700000000999999.jpg"))
    shutil.copy(lab / "raw/ep_1/joints/left_slave.parquet", lab / "raw/ep_1/joints/third_arm.parquet")

    found = problems(lab, with_raw=True)

    assert [name for name, _ in found] == [
        "ep_1/joints/third_arm.parquet",
        f"ep_1/images/cam_base/{frames[3].name}",
        "ep_1/images/cam_base/1700000000999999.jpg",
    ]
    assert "missing" in found[1][1]


def test_missing_raw_episode_is_named(lab: Path) -> None:
    shutil.rmtree(lab / "raw/ep_1")

    assert problems(lab, with_raw=True) == [("raw/ep_1", "the raw episode of episode 0 is not there")]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_flipped_byte_in_a_video_is_named(lab: Path, part: float) -> None:
    path = layout.video_path("observation.images.cam_side", 1)
    flip(lab / "dataset" / path, int((lab / "dataset" / path).stat().st_size * part))

    assert [name for name, _ in problems(lab)] == [path]


@pytest.mark.parametrize("column", ["action", "observation.state.master", "timestamp"])
def test_smallest_change_of_one_value_is_named(lab: Path, column: str) -> None:
    path = lab / "dataset" / layout.data_path(1)
    table = pq.read_table(path)
    values = table.column(column).combine_chunks()
    buffer = np.frombuffer(values.buffers()[-1] if column == "timestamp" else values.values.buffers()[-1], np.uint8)
    changed = np.array(buffer)
    changed[4 * 3] ^= 1
    flat = type(values if column == "timestamp" else values.values).from_buffers(
        values.type if column == "timestamp" else values.values.type, len(changed) // 4, [None, pa.py_buffer(changed)]
    )
    array = flat if column == "timestamp" else type(values).from_arrays(flat, values.type.list_size)
    pq.write_table(table.set_column(table.column_names.index(column), table.schema.field(column), array), path)

    assert [name for name, _ in problems(lab)] == [layout.data_path(1)]


def test_every_flipped_byte_of_a_manifest_is_named(lab: Path) -> None:
    path = lab / "dataset" / layout.manifest_path(0)
    content = path.read_bytes()
    unnoticed = []
    for at in [*range(0, len(content), 97), len(content) - 1]:
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(bytes(changed))
        if layout.manifest_path(0) not in {name for name, _ in problems(lab)}:
            unnoticed.append(at)

    assert unnoticed == []


def test_other_digest_in_the_index_is_named(lab: Path) -> None:
    path = lab / "dataset" / layout.PROVENANCE_PATH
    path.write_text(path.read_text().replace("ep_1", "ep_9"))

    assert problems(lab) == [(layout.manifest_path(0), f"episode_id is 'ep_1', {layout.PROVENANCE_PATH} says 'ep_9'")]


def test_manifest_that_the_index_does_not_list_is_named(lab: Path) -> None:
    path = lab / "dataset" / layout.PROVENANCE_PATH
    path.write_text(path.read_text().splitlines()[0] + "\n")

    assert [name for name, _ in problems(lab)] == [layout.manifest_path(1)]


def test_missing_manifest_video_and_table_are_named(lab: Path) -> None:
    gone = [layout.manifest_path(0), layout.video_path("observation.images.cam_base", 1), layout.data_path(1)]
    for path in gone:
        (lab / "dataset" / path).unlink()

    assert [name for name, _ in problems(lab)] == gone


def test_rows_hash_the_same_whatever_number_the_episode_gets(lab: Path) -> None:
    first, second = (read_manifest(lab / "dataset", index) for index in (0, 1))

    assert problems(lab) == []
    assert first["rows"] == second["rows"], "both episodes have the same joints, and different numbers"


def test_rows_digest_knows_names_shapes_and_values_and_not_the_columns_order() -> None:
    one, two = np.arange(6, dtype=np.float32), np.ones((3, 2), np.float32)

    digest = rows_digest({"a": one, "b": two})

    assert digest == rows_digest({"b": two, "a": one.reshape(6, 1), "index": np.arange(6)})
    others = [
        {"a": one, "c": two},
        {"a": one, "b": two.T},
        {"a": one + 1e-6, "b": two},
        {"a": one.astype(np.float64), "b": two},
        {"a": one},
    ]
    assert len({digest, *(rows_digest(columns) for columns in others)}) == 6


def test_seal_fits_what_was_written_and_read_again() -> None:
    manifest = sealed({"b": [1, 2.5, None], "a": {"ü": 1e-9}})

    assert sealed(json.loads(json.dumps(manifest))) == manifest
    assert sealed(msgspec.json.decode(msgspec.json.encode(manifest))) == manifest
    assert sealed({**manifest, "b": []})["seal"] != manifest["seal"]


def test_folder_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"info\.json"):
        verify_provenance(tmp_path)
