"""A simulated robot in a process of its own, and `episodeflow record` in another, as a person starts and kills them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EPISODEFLOW = str(Path(sys.executable).with_name("episodeflow"))
CAMERAS = (
    "{ left: {type: opencv, index_or_path: sim://left, width: 320, height: 240, fps: 30, warmup_s: 0},"
    ' front: {type: opencv, index_or_path: sim://front, width: 320, height: 240, "fps": 30, warmup_s: 0} }'
)
_TIMEOUT_S = 90.0


class Robot:
    """Ports and calibration of a simulated robot."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports

    @property
    def environ(self) -> dict[str, str]:
        """Where its calibration lies, and where datasets go."""
        home = self.folder / "hf"
        return {"HF_LEROBOT_CALIBRATION": str(self.folder / "calibration"), "HF_LEROBOT_HOME": str(home), "HOME": str(home)}

    def flags(self, **changes: str | None) -> list[str]:
        """Return the flags of `record`; ``dataset__fps="60"`` changes one, None leaves it away."""
        ports, identity = self.ports, self.ports["id"]
        flags = {
            "robot.type": "bi_so100_follower",
            "robot.left_arm_port": ports["left_follower"],
            "robot.right_arm_port": ports["right_follower"],
            "robot.id": identity,
            "robot.cameras": CAMERAS,
            "teleop.type": "bi_so100_leader",
            "teleop.left_arm_port": ports["left_leader"],
            "teleop.right_arm_port": ports["right_leader"],
            "teleop.id": identity,
            "dataset.repo_id": "lab/blocks",
            "dataset.single_task": "Stack blocks.",
            "dataset.episode_time_s": "1.2",
            "dataset.reset_time_s": "0.1",
            "play_sounds": "false",
        }
        flags |= {name.replace("__", "."): value for name, value in changes.items()}  # type: ignore[dict-item]
        return [f"--{name}={value}" for name, value in flags.items() if value is not None]


@contextmanager
def simulated(folder: Path, *arguments: str, robot_id: str = "sim") -> Iterator[Robot]:
    """Run `simulate` until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = folder / "ports.json"
    command = [EPISODEFLOW, "simulate", "--json", str(ports), "--calibration", str(folder / "calibration"), "--id", robot_id, *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline_s = time.monotonic() + _TIMEOUT_S
        while not ports.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        try:
            yield Robot(folder, json.loads(ports.read_text()))
        finally:
            process.terminate()


class Recorder:
    """A running `record`, and what it has printed."""

    def __init__(self, process: subprocess.Popen[str], keyboard: int) -> None:
        self.process = process
        self.lines: list[str] = []
        self._keyboard = keyboard

    def until(self, text: str) -> str:
        """Read until a line has ``text``, and return the line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if text in line:
                return line
        raise AssertionError(f"the recorder ended without {text!r}:\n" + "\n".join(self.lines))

    def press(self, keys: str) -> None:
        """Type on the terminal, or into the pipe in its place."""
        os.write(self._keyboard, keys.encode())

    def kill(self) -> None:
        """End the recorder alone with SIGKILL, as a power cut or the kernel would."""
        self.process.kill()
        self.process.wait()

    def ended(self) -> int:
        """Read to the end and return the exit status."""
        assert self.process.stdout is not None
        self.lines += [line.rstrip("\n") for line in self.process.stdout]
        return self.process.wait(timeout=_TIMEOUT_S)

    def has(self, text: str) -> bool:
        """Say whether a line has ``text``."""
        return any(text in line for line in self.lines)

    @property
    def printed(self) -> str:
        """Everything, for messages."""
        return "\n".join(self.lines)


@contextmanager
def recording(
    robot: Robot,
    *arguments: str,
    state: Path | None = None,
    environ: dict[str, str] | None = None,
    is_terminal: bool = False,
    **flags: str | None,
) -> Iterator[Recorder]:
    """Run `record` for the block, its errors among its output; what still runs afterwards is killed.

    Args:
        robot: to be recorded.
        arguments: after the flags.
        state: the state folder; None: one beside the robot.
        environ: over the robot's.
        is_terminal: the keyboard is a pseudo-terminal, not a pipe.
        flags: see ``Robot.flags``.
    """
    command = [EPISODEFLOW, "record", *robot.flags(**flags), "--state", str(state or robot.folder / "state"), *arguments]
    keyboard, heard = pty.openpty() if is_terminal else reversed(os.pipe())
    process = subprocess.Popen(
        command,
        stdin=heard,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        start_new_session=True,
        env={**os.environ, **robot.environ, "PYTHONUNBUFFERED": "1", **(environ or {})},
    )
    os.close(heard)
    assert process.stdout is not None
    try:
        yield Recorder(process, keyboard)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        os.close(keyboard)


def recorded(robot: Robot, *arguments: str, state: Path | None = None, **flags: str | None) -> Recorder:
    """Run `record` to its end and return it."""
    with recording(robot, *arguments, state=state, **flags) as recorder:
        recorder.ended()
    return recorder
