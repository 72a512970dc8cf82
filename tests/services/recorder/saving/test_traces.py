"""What may be in a store is known on the disk before it is there, until it is complete or gone."""

from __future__ import annotations

from pathlib import Path

from services.recorder.saving.traces import Trace, Traces
from shared.places import Place


def trace_of(episode_id: str) -> Trace:
    return Trace(episode_id=episode_id, root="s3://robots", prefix=f"raw_datas/{episode_id}/")


def test_traces_survive_a_restart_and_are_sorted(tmp_path: Path) -> None:
    for name in ("e2", "e1"):
        Traces(tmp_path).note(trace_of(name))

    assert Traces(tmp_path).all() == [trace_of("e1"), trace_of("e2")]
    assert trace_of("e1").place == Place("s3://robots", "raw_datas/e1/")


def test_a_forgotten_trace_is_gone_and_may_be_forgotten_again(tmp_path: Path) -> None:
    traces = Traces(tmp_path)
    traces.note(trace_of("e1"))
    for _ in range(2):
        traces.forget("e1")

    assert (traces.all(), traces.of("e1")) == ([], None)


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    traces = Traces(tmp_path)
    traces.note(trace_of("e1"))
    for name, content in ((".part-1.json", b"{}"), ("e2.json", b"{"), ("e3.json", b"\xff"), ("notes.txt", b"")):
        (tmp_path / "sent_ahead" / name).write_bytes(content)

    assert traces.all() == [trace_of("e1")]
    assert len(list((tmp_path / "sent_ahead").iterdir())) == 5


def test_without_a_folder_there_are_none(tmp_path: Path) -> None:
    assert Traces(tmp_path).all() == []
