"""`episodeflow simulate` as a process, used by another process."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner

from cli.main import commands
from services.recorder.robots.models import RobotOptions
from services.recorder.robots.robot import connected_robot
from services.recorder.robots.servo_bus import BusSettings

EPISODEFLOW = str(Path(sys.executable).with_name("episodeflow"))


@contextmanager
def simulating(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Run the command until its ports work, and give the process and what its JSON file says."""
    ports = folder / "ports.json"
    command = [EPISODEFLOW, "simulate", "--json", str(ports), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 30
        while not ports.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        try:
            yield process, json.loads(ports.read_text())
        finally:
            if process.poll() is None:
                process.kill()


def test_a_robot_connects_with_what_is_printed_and_the_process_ends_on_a_signal(tmp_path: Path) -> None:
    async def session(options: RobotOptions) -> tuple[float, ...]:
        environ = {"HF_LEROBOT_CALIBRATION": str(tmp_path / "calibration")}
        async with connected_robot(options, kind="robot", environ=environ, settings=BusSettings(margin_s=0.5)) as robot:
            return await robot.positions()

    with simulating(tmp_path, "--calibration", str(tmp_path / "calibration"), "--id", "me") as (process, ports):
        options = RobotOptions(
            type="bi_so101_follower", id="me", left_arm_port=ports["left_follower"], right_arm_port=ports["right_follower"]
        )
        positions = asyncio.run(session(options))
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=20)

    assert len(positions) == 12
    assert process.returncode == 0
    assert f"left_follower  {ports['left_follower']}" in printed
    assert f"--teleop.type=bi_so100_leader --teleop.left_arm_port={ports['left_leader']}" in printed
    assert f"export HF_LEROBOT_CALIBRATION={tmp_path / 'calibration'}" in printed


def test_an_unknown_fault_is_refused_in_a_sentence() -> None:
    result = CliRunner().invoke(commands, ["simulate", "--faults", "left_follower.tired=1"])

    assert "unknown fault 'tired'" in str(result.exception)
