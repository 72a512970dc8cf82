"""JSON objects that keep what they do not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import BadDataset
from shared.lerobot.records import EpisodeLine, FeatureStats, StatsLine, TaskLine, decoded, decoded_lines, encoded_lines, plain, read_lines


def test_unknown_keys_survive_at_every_depth() -> None:
    stats = {"min": [0], "max": [1], "mean": [0.5], "std": [0.5], "count": [2], "q99": [0.99]}
    document = {"episode_index": 0, "stats": {"action": stats}, "note": {"by": "hand"}}

    record = decoded(document, StatsLine, place="line")

    assert isinstance(record.stats["action"], FeatureStats)
    assert plain(record) == document


def test_lines_are_objects_with_one_final_newline_and_readable_text() -> None:
    content = encoded_lines([TaskLine(task_index=0, task="堆叠"), TaskLine(task_index=1, task='a "b"\n')])

    assert content.decode() == '{"task_index": 0, "task": "堆叠"}\n{"task_index": 1, "task": "a \\"b\\"\\n"}\n'
    assert [line.task for line in decoded_lines(content, TaskLine, place="tasks")] == ["堆叠", 'a "b"\n']


@pytest.mark.parametrize("content", [b'{"task_index": 0, "task": "a"}\n\n', b"\n", b'\n{"task_index": 0, "task": "a"}\n'])
def test_a_blank_line_is_refused_as_lerobot_refuses_it(content: bytes) -> None:
    with pytest.raises(BadDataset, match=r"tasks line \d: is blank"):
        decoded_lines(content, TaskLine, place="tasks")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "line 1: is not valid JSON"),
        (b"[]", "holds a list, expected a JSON object"),
        (b'{"episode_index": 0, "tasks": []}', "missing required field `length`"),
        (b'{"episode_index": "0", "tasks": [], "length": 1}', "Expected `int`, got `str`"),
    ],
)
def test_a_bad_line_is_named(content: bytes, sentence: str) -> None:
    with pytest.raises(BadDataset, match=sentence):
        decoded_lines(content, EpisodeLine, place="episodes.jsonl")


def test_a_number_that_json_does_not_have_is_never_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encoded_lines([EpisodeLine(episode_index=0, tasks=[], length=1, extra={"score": float("nan")})])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"tasks\.jsonl: cannot be read"):
        read_lines(tmp_path / "tasks.jsonl", TaskLine)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl").write_bytes(b"")

    assert read_lines(tmp_path / "tasks.jsonl", TaskLine) == []
