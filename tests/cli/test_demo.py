"""`episodeflow demo` as a process: raw episodes become checked datasets, and nothing stays behind."""

from pathlib import Path

import psutil

from shared.lerobot.check import check_dataset
from tests.e2e.stacks import run_command


async def test_demo_shows_every_stage_and_leaves_a_sound_dataset_and_no_process(tmp_path: Path) -> None:
    status, out, err = await run_command("demo", "--episodes", "1", "--state", str(tmp_path / "state"))
    datasets = list((tmp_path / "state" / "store" / "converted_datas").iterdir())
    running = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(process.info["cmdline"] or [])]

    assert (status, err) == (0, ""), err
    assert all(stage in out for stage in ("recorded", "ready", "converted", "uploaded", "checked"))
    assert len(datasets) == 1
    assert f"checked dataset: {datasets[0]}" in out
    assert check_dataset(datasets[0], quick=True).problems == ()
    assert running == []
