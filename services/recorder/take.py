"""One episode at the robot: from the moment it is begun to what the saver gets.

Decides the episode's name, its event, and what its metadata say. Knows nothing of keys and phases.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from services.recorder.cameras.process import Cameras
from services.recorder.cameras.reports import CameraReport
from services.recorder.clock import Clock
from services.recorder.control import ControlLoop
from services.recorder.joints import JointRecording
from services.recorder.options import RecordOptions
from services.recorder.recipe import arm_names, joint_names
from services.recorder.robots.models import arm_plans
from services.recorder.saving.episode import ArmSamples, FinishedEpisode
from shared.events import EpisodeReady
from shared.version import VERSION

RECORDING_FOLDER = "recording"
_LONGEST_ROBOT_NAME = 64
_LEAST_SHARE = 0.9
_MOST_REPEATED = 0.1
_LONGEST_GAP_MS = 100.0


class Take(msgspec.Struct, frozen=True, kw_only=True):
    """An episode that has ended and is not saved yet.

    Attributes:
        number: in the dataset, counted from one.
        event: what will be published for it.
        joints: of all arms.
        cameras: what each camera did.
        problems: why it may not be what was wanted, as sentences.
        ended_us: when it ended, microseconds since the epoch.
    """

    number: int
    event: EpisodeReady
    joints: JointRecording
    cameras: dict[str, CameraReport]
    problems: tuple[str, ...]
    begun_us: int
    ended_us: int

    @property
    def missing(self) -> str | None:
        """Why nothing can be made of it, or None."""
        silent = [name for name, report in self.cameras.items() if report.num_frames == 0]
        if silent:
            return f"no frame came from {', '.join(silent)}"
        still = [name for name, arm in self.joints.arms.items() if len(arm.times_us) == 0]
        return f"no position came from {', '.join(still)}" if still else None

    @property
    def num_frames(self) -> dict[str, int]:
        """Frames by camera."""
        return {name: report.num_frames for name, report in self.cameras.items()}


class Taker:
    """Makes takes, one at a time.

    Args:
        options: of the recording.
        source: whose episodes these are.
        task: the instruction in words; may be changed between two takes.
        overrides: of the converter's strategy file, for every event.
        folder: of the recorder.
        clock: of arms and cameras.
        loop: drives and samples the arms.
        cameras: write their frames themselves.
    """

    def __init__(
        self,
        *,
        options: RecordOptions,
        source: str,
        overrides: dict[str, Any],
        folder: Path,
        clock: Clock,
        loop: ControlLoop,
        cameras: Cameras,
    ) -> None:
        self.task = options.dataset.single_task
        self._options = options
        self._source = source
        self._overrides = overrides
        self._folder = folder / RECORDING_FOLDER
        self._clock = clock
        self._loop = loop
        self._cameras = cameras
        self._episode_id = ""
        self._begun_us = 0
        self._problems: list[str] = []

    def images(self, episode_id: str) -> Path:
        """Return where the cameras write the frames of an episode."""
        return self.episode_folder(episode_id) / "images"

    def episode_folder(self, episode_id: str) -> Path:
        """Return the folder of an episode that is being recorded."""
        return self._folder / episode_id

    async def begin(self) -> None:
        """Keep every frame and every sample from now on.

        Raises:
            CameraUnreachable: the process of the cameras has ended.
        """
        self._episode_id = new_episode_id(self._options, number_s=time.time())
        self._problems = []
        self._begun_us = self._clock.now_us()
        await self._cameras.start(self.images(self._episode_id))
        self._loop.begin()

    def note(self, problem: str) -> None:
        """Mark the episode that is being recorded."""
        self._problems.append(problem)

    async def end(self, number: int) -> Take:
        """Keep nothing more, and return what there is.

        Raises:
            CameraUnreachable: the process of the cameras has ended.
        """
        ended_us = self._clock.now_us()
        joints = self._loop.end()
        reports = await self._cameras.stop()
        dataset = self._options.dataset
        event = EpisodeReady(
            episode_id=self._episode_id,
            source=self._source,
            strategy=dataset.strategy,
            config_overrides=self._overrides,
            timestamp=ended_us / 1e6,
            task=self.task,
            dataset=dataset.repo_id,
        )
        problems = tuple(dict.fromkeys([*self._problems, *doubts(self._options, joints, reports)]))
        return Take(
            number=number, event=event, joints=joints, cameras=reports, problems=problems, begun_us=self._begun_us, ended_us=ended_us
        )

    def finished(self, take: Take) -> FinishedEpisode:
        """Return what the saver needs of a take."""
        return FinishedEpisode(
            event=take.event,
            folder=self.episode_folder(take.event.episode_id),
            arms=tuple(ArmSamples(arm=name, times_us=arm.times_us, values=arm.values) for name, arm in take.joints.arms.items()),
            metadata=metadata(self._options, take),
            num_frames=next(iter(take.num_frames.values())),
        )

    async def forget(self, take: Take) -> None:
        """Remove what the cameras wrote for a take that nobody wants."""
        await asyncio.to_thread(shutil.rmtree, self.episode_folder(take.event.episode_id), ignore_errors=True)


def new_episode_id(options: RecordOptions, *, number_s: float) -> str:
    """Return a name that no other episode of the source has, and that sorts by time.

    Args:
        options: of the recording: the robot's id comes first.
        number_s: seconds since the epoch.
    """
    robot = re.sub(r"[^A-Za-z0-9_-]+", "-", options.robot.id or options.robot.type).strip("-_")[:_LONGEST_ROBOT_NAME] or "robot"
    return f"{robot}_{datetime.fromtimestamp(number_s, UTC):%Y%m%dT%H%M%S}_{secrets.token_hex(3)}"


def doubts(options: RecordOptions, joints: JointRecording, cameras: Mapping[str, CameraReport]) -> Iterator[str]:
    """Yield a sentence for everything that makes an episode worth a second look."""
    for name, report in cameras.items():
        if report.problem:
            yield report.problem
        elif report.num_frames and report.measured_fps < _LEAST_SHARE * options.cameras[name].fps:
            yield f"camera {name}: delivered {report.measured_fps:.1f} frames per second, expected {options.cameras[name].fps}: more light?"
        if report.num_lost:
            yield f"camera {name}: {report.num_lost} frames could not be written: is the disk fast enough?"
        if report.num_repeated > _MOST_REPEATED * report.num_frames:
            yield f"camera {name}: {report.num_repeated} of {report.num_frames} frames are those before them: is it frozen?"
    rate_hz, wanted_hz = joints.report.measured_rate_hz, joints.report.wanted_rate_hz
    if rate_hz < _LEAST_SHARE * wanted_hz:
        yield f"the arms were sampled {rate_hz:.0f} times a second, expected {wanted_hz:.0f}: is the host busy, or a cable loose?"
    gap_ms = max(joints.report.longest_gap_ms, _silence_ms(joints))
    if gap_ms > _LONGEST_GAP_MS:
        yield (
            f"an arm did not answer for {gap_ms:.0f} ms, at most {_LONGEST_GAP_MS:.0f} expected: "
            "rows repeat its last position, or end there; is a cable loose?"
        )


def _silence_ms(joints: JointRecording) -> float:
    """Return how much later than the others an arm began, or how much sooner it ended."""
    times_us = [arm.times_us for arm in joints.arms.values() if len(arm.times_us)]
    firsts, lasts = [int(times[0]) for times in times_us], [int(times[-1]) for times in times_us]
    return max(max(firsts) - min(firsts), max(lasts) - min(lasts)) / 1000 if times_us else 0.0


def metadata(options: RecordOptions, take: Take) -> dict[str, Any]:
    """Return what ``joints/metadata.json`` says: what was recorded, by what, and how well."""
    arms = {name: joint_names(plan) for plan in arm_plans(options.robot, kind="robot") for name in arm_names(plan)}
    return {
        "task": take.event.task,
        "robot_type": options.robot.type,
        "robot_id": options.robot.id,
        "teleop_type": options.teleop.type,
        "dataset": take.event.dataset,
        "episode_number": take.number,
        "fps": options.dataset.fps,
        "begun_us": take.begun_us,
        "ended_us": take.ended_us,
        "joint_names": arms,
        "control": msgspec.to_builtins(take.joints.report),
        "cameras": {
            name: {"width": camera.width, "height": camera.height, "fps": camera.fps, **msgspec.to_builtins(take.cameras[name])}
            for name, camera in options.cameras.items()
        },
        "problems": list(take.problems),
        "software": f"episodeflow {VERSION}",
    }
