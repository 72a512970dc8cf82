"""However `record` and the recorder service are told to end, no follower stays under torque: read back through its port."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGQUIT, SIGTERM, Signals

import msgspec
import pytest

from services.recorder.robots import registers
from services.recorder.robots.arm import SERVO_IDS
from services.recorder.robots.servo_bus import ServoBus
from shared.connection import NobodyListens
from tests.cli.labs import Lab, opened_lab
from tests.e2e.recorders import EPISODEFLOW, Recorder, Robot, recording, simulated

pytestmark = pytest.mark.timeout(120)

FOLLOWERS = ("left_follower", "right_follower")
WITHIN_S = 30.0


@contextmanager
def endless(robot: Robot) -> Iterator[Recorder]:
    """Record an episode that does not end by itself."""
    with recording(robot, dataset__episode_time_s="600") as recorder:
        yield recorder


async def read_torques(robot: Robot) -> set[int]:
    """Return the torque that the followers' servos report."""
    found: set[int] = set()
    for name in FOLLOWERS:
        bus = await ServoBus.open(robot.ports[name], joints={})
        try:
            found |= set((await bus.sync_read(SERVO_IDS, registers.TORQUE_ENABLE, num_retries=5)).values())
        finally:
            await bus.close()
    return found


def send(process: subprocess.Popen[str], signals: Sequence[Signals], *, apart_s: float) -> None:
    """Send signals to the recorder itself, not to its children."""
    for number in signals:
        process.send_signal(number)
        time.sleep(apart_s)


def ended_by(recorder: Recorder, signals: Sequence[Signals], *, apart_s: float) -> int:
    send(recorder.process, signals, apart_s=apart_s)
    return recorder.ended()


@pytest.mark.parametrize(
    ("signals", "apart_s", "expected"),
    [  # at once they are of different kinds: two of a kind may arrive as one
        pytest.param([SIGINT, SIGTERM, SIGQUIT], 0.0, 130, id="three at once"),
        pytest.param([SIGINT] * 3, 0.033, 130, id="three impatient ones"),
        pytest.param([SIGHUP, SIGTERM], 0.03, 0, id="terminal closed, then stopped"),
        pytest.param([SIGQUIT], 0.0, 0, id="quit"),
    ],
)
def test_no_follower_stays_under_torque(tmp_path: Path, signals: list[Signals], apart_s: float, expected: int) -> None:
    with simulated(tmp_path) as robot, endless(robot) as recorder:
        recorder.until("Recording episode 1")
        status = ended_by(recorder, signals, apart_s=apart_s)
        torques = asyncio.run(read_torques(robot))

    assert torques == {0}, recorder.printed
    assert status == expected, recorder.printed


def test_only_a_killed_recorder_leaves_the_torque_on(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot, endless(robot) as recorder:
        recorder.until("Recording episode 1")
        recorder.kill()
        torques = asyncio.run(read_torques(robot))

    assert torques == {1}


def test_impatience_while_a_silent_leader_is_let_go_leaves_no_follower_under_torque(tmp_path: Path) -> None:
    with simulated(tmp_path, "--faults", "right_leader.silence=7") as robot, endless(robot) as recorder:
        recorder.until("Recording episode 1")
        recorder.until("right_shoulder_pan")
        time.sleep(1.8)  # it is let go two seconds after it fell silent; whenever the signals come, the followers must be free
        status = ended_by(recorder, [SIGINT] * 3, apart_s=0.3)
        torques = asyncio.run(read_torques(robot))

    assert torques == {0}, recorder.printed
    assert status == 130, recorder.printed


def test_arms_that_did_not_confirm_are_named_after_the_error(tmp_path: Path) -> None:
    with (
        simulated(tmp_path, "--faults", "right_leader.silence=6,left_follower.silence=6") as robot,
        endless(robot) as recorder,
    ):
        status = recorder.ended()

    said, ended = recorder.printed, recorder.printed.index("error: ")
    assert status == 1
    assert said.index("did not confirm that the torque is off") < ended < said.rindex("did not confirm that the torque is off")
    assert "the arms are let go" not in said
    assert 0 < said.index("the left follower: all servos did not confirm") < said.index("the right leader: all servos did not confirm")
    assert "switch the arm's power off before touching it" in said


def started(lab: Lab, robot: Robot) -> subprocess.Popen[str]:
    command = [EPISODEFLOW, "recorder", "-c", str(lab.config), "--state", str(robot.folder / "state"), *robot.flags(source="lab")]
    environ = {**os.environ, **robot.environ}
    with (robot.folder / "recorder.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environ, start_new_session=True)


@asynccontextmanager
async def serving(lab: Lab, robot: Robot) -> AsyncIterator[subprocess.Popen[str]]:
    """Run the recorder service until the block ends, from when it waits to be asked."""
    process = started(lab, robot)
    try:
        async with asyncio.timeout(WITHIN_S):
            while await phase(lab) != "waiting":
                assert process.poll() is None, (robot.folder / "recorder.log").read_text()
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def phase(lab: Lab) -> str:
    """Return what the service says it is doing."""
    try:
        answer = await lab.bus.connection.ask("episodeflow.recorder.sim.status", b"", timeout_s=5)
    except NobodyListens:
        return "away"
    return str(msgspec.json.decode(answer)["phase"])


@pytest.mark.parametrize(("signals", "expected"), [([SIGTERM, SIGTERM], {0, 130}), ([SIGTERM, SIGINT], {130}), ([SIGHUP], {0})])
async def test_a_stopped_service_leaves_no_follower_under_torque(tmp_path: Path, signals: list[Signals], expected: set[int]) -> None:
    async with opened_lab(tmp_path) as lab:
        with simulated(tmp_path / "robot") as robot:
            async with serving(lab, robot) as process:
                send(process, signals, apart_s=0.002 if signals[0] is signals[-1] else 0.0)
                status = await asyncio.to_thread(process.wait, WITHIN_S)
            torques = await read_torques(robot)

    assert torques == {0}
    assert status in expected  # two signals in two milliseconds may arrive as one
