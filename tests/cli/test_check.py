"""`episodeflow check` on a dataset made by `convert`."""

from pathlib import Path

import msgspec
from click.testing import CliRunner

from cli.check import command
from tests.e2e.stacks import run_command
from tests.services.converter.episodes import STRATEGY, write_episode


async def test_sound_dataset_is_one_line_and_a_broken_one_a_line_per_problem(tmp_path: Path) -> None:
    write_episode(tmp_path / "raw")
    document = {**STRATEGY, "input": {"data_path": str(tmp_path / "raw")}, "output": {"base_path": str(tmp_path / "dataset")}}
    (tmp_path / "local.yaml").write_bytes(msgspec.yaml.encode(document))
    await run_command("convert", "-c", str(tmp_path / "local.yaml"))
    sound = CliRunner().invoke(command, [str(tmp_path / "dataset")])
    quick = CliRunner().invoke(command, [str(tmp_path / "dataset"), "--quick"])
    next((tmp_path / "dataset" / "videos").rglob("*.mp4")).unlink()
    (tmp_path / "dataset" / "meta" / "tasks.jsonl").write_text("")
    broken = CliRunner().invoke(command, [str(tmp_path / "dataset")])

    assert (sound.exit_code, quick.exit_code, broken.exit_code) == (0, 0, 1)
    assert sound.output == f"{tmp_path}/dataset: sound (1 episodes, 24 frames, 2 videos, 1 tasks)\n"
    assert "videos not decoded" in quick.output
    assert "meta/info.json: total_tasks is 1, expected 0" in broken.output.splitlines()
    assert ".mp4: " in broken.output


def test_folder_that_is_no_dataset_is_a_problem(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path)])

    assert result.exit_code == 1
    assert "meta/info.json" in result.output
