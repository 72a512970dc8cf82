"""Raw episodes of a simulated bimanual robot: what a recorder would write, made here from nothing but a seed.

Two leaders move along smooth paths, two followers lag behind them; every arm and every camera has a clock of its own with
phase and jitter. Two wrist cameras and one in front of the table see the followers. Letters: S samples, J joints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shared.episode import METADATA_FILE

NUM_JOINTS = 7
JOINTS_HZ = 250
ARMS = ("left_slave", "left_master", "right_slave", "right_master")
RATE_HZ_BY_CAMERA = {"cam_left_wrist": 25, "cam_right_wrist": 25, "cam_env": 30}
TASK = "Put the red cube into the tray."
ROBOT_TYPE = "simulated_bimanual"
START_US = 1_764_564_821_000_000

_LAG_S = 0.05
_WIDTH, _HEIGHT = 640, 480
_JPEG_QUALITY = 90
_SIDES = ("left", "right")

Image = NDArray[np.uint8]
Joints = NDArray[np.float64]


def strategy_document(*, strategy: str = "nearest", preset: str = "veryfast") -> dict[str, Any]:
    """Return the strategy file that fits this robot."""
    roles = ("base", "sync", "downsample")
    return {
        "robot": {"type": ROBOT_TYPE, "arms": [{"name": arm, "role": arm.split("_")[1]} for arm in ARMS], "joints_per_arm": NUM_JOINTS},
        "cameras": [
            {"name": name, "role": role, "target_fps": rate_hz}
            for (name, rate_hz), role in zip(RATE_HZ_BY_CAMERA.items(), roles, strict=True)
        ],
        "alignment": {"strategy": strategy},
        "video": {"fps": 25, "preset": preset},
    }


class Motion(msgspec.Struct, frozen=True):
    """The paths of both leaders: per side amplitude, angular frequency and phase (3, J) of a sum of sines, in radians."""

    amplitudes: dict[str, Joints]
    frequencies: dict[str, Joints]
    phases: dict[str, Joints]

    def leader(self, side: str, times_s: NDArray[np.float64]) -> Joints:
        """Return the joints (S, J) of a leader at times (S,)."""
        angles = times_s[:, None, None] * self.frequencies[side] + self.phases[side]
        joints: Joints = (self.amplitudes[side] * np.sin(angles)).sum(axis=1)
        return joints

    def follower(self, side: str, times_s: NDArray[np.float64]) -> Joints:
        """Return the joints (S, J) of a follower: where its leader was a moment ago."""
        return self.leader(side, times_s - _LAG_S)


def make_motion(generator: np.random.Generator) -> Motion:
    """Return a motion, different for every state of the generator."""
    shape = (3, NUM_JOINTS)
    weight = np.array([[0.45], [0.22], [0.1]])
    return Motion(
        {side: weight * generator.uniform(0.6, 1.0, shape) for side in _SIDES},
        {side: np.array([[1.1], [2.3], [3.7]]) * generator.uniform(0.8, 1.2, shape) for side in _SIDES},
        {side: generator.uniform(0, 2 * np.pi, shape) for side in _SIDES},
    )


def write_episode(folder: Path, *, seconds: float, seed: int) -> None:
    """Write one raw episode in the bucket layout, ``joints/metadata.json`` last.

    Args:
        folder: the episode's folder; it is made.
        seconds: how long it lasts.
        seed: chooses the motion and the jitter.
    """
    generator = np.random.default_rng(seed)
    motion = make_motion(generator)
    (folder / "joints").mkdir(parents=True)
    start_us = START_US + seed * 60_000_000
    for arm in ARMS:
        _write_arm(folder / "joints" / f"{arm}.parquet", arm, motion, generator, start_us=start_us, seconds=seconds)
    scenery = Scenery(generator)
    for camera, rate_hz in RATE_HZ_BY_CAMERA.items():
        (folder / "images" / camera).mkdir(parents=True)
        for time_us in _times_us(generator, rate_hz=rate_hz, seconds=seconds - 0.1, jitter_us=2500) + start_us + 20_000:
            image = scenery.frame(camera, motion, (int(time_us) - start_us) / 1e6)
            body = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
            (folder / "images" / camera / f"{time_us}.jpg").write_bytes(body)
    metadata = {"task": TASK, "robot_type": ROBOT_TYPE, "joints_fps": JOINTS_HZ}
    (folder / "joints" / METADATA_FILE).write_bytes(msgspec.json.encode(metadata))


def _write_arm(path: Path, arm: str, motion: Motion, generator: np.random.Generator, *, start_us: int, seconds: float) -> None:
    side, role = arm.split("_")
    times_us = _times_us(generator, rate_hz=JOINTS_HZ, seconds=seconds, jitter_us=300)
    joints = (motion.leader if role == "master" else motion.follower)(side, times_us / 1e6)
    joints = joints + generator.normal(0, 0.0005, joints.shape)  # encoders are not exact
    columns = {f"joint_{index}": joints[:, index] for index in range(NUM_JOINTS)}
    pq.write_table(pa.table({"timestamps": times_us + start_us, **columns}), path)


def _times_us(generator: np.random.Generator, *, rate_hz: int, seconds: float, jitter_us: int) -> NDArray[np.int64]:
    """Return strictly increasing microseconds with a phase of their own; the jitter is less than half a period."""
    period_us = 1_000_000 / rate_hz
    ticks = np.arange(int(seconds * rate_hz))
    jitter = np.clip(generator.normal(0, jitter_us / 2, len(ticks)), -jitter_us, jitter_us)
    times: NDArray[np.int64] = np.rint(ticks * period_us + generator.uniform(jitter_us, period_us) + jitter).astype(np.int64)
    return times


class Scenery:
    """What the cameras see: a table, a cube, a tray, and the followers over it.

    Args:
        generator: gives the grain of the wood and the noise of the sensor.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        size = (2 * _HEIGHT, 2 * _WIDTH)
        grain = cv2.resize(generator.normal(0, 9, (240, 40)).astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
        wood = np.array([96, 138, 172], np.float32) + grain[:, :, None] * np.array([0.8, 1.0, 1.1], np.float32)
        self._table: Image = np.clip(wood, 0, 255).astype(np.uint8)
        self._front = self._make_front()
        _draw_objects(self._table, (_WIDTH, _HEIGHT), scale=1.6)
        self._noise = [generator.integers(0, 7, (_HEIGHT, _WIDTH, 3), np.uint8) for _ in range(8)]
        self._count = 0

    def frame(self, camera: str, motion: Motion, time_s: float) -> Image:
        """Return what a camera sees at a time of the episode, (480, 640, 3) uint8 BGR."""
        joints = {side: motion.follower(side, np.array([time_s]))[0] for side in _SIDES}
        image = self._front_view(joints) if camera == "cam_env" else self._wrist_view(joints[camera.split("_")[1]])
        self._count += 1
        noisy: Image = cv2.add(image, self._noise[self._count % len(self._noise)])  # type: ignore[assignment]
        return noisy

    def _make_front(self) -> Image:
        image = np.empty((_HEIGHT, _WIDTH, 3), np.uint8)
        image[:] = (np.linspace(205, 150, _HEIGHT)[:, None, None] * np.array([0.98, 0.97, 0.92])).astype(np.uint8)  # the wall
        image[200:] = self._table[200:_HEIGHT, :_WIDTH]
        cv2.line(image, (0, 200), (_WIDTH, 200), (70, 95, 120), 3)
        _draw_objects(image, (_WIDTH // 2, 350), scale=1.0)
        return image

    def _front_view(self, joints: dict[str, Joints]) -> Image:
        image = self._front.copy()
        for side, base_x, direction in (("left", 110, 1), ("right", _WIDTH - 110, -1)):
            _draw_arm(image, joints[side], base=(base_x, 300), direction=direction)
        return image

    def _wrist_view(self, pose: Joints) -> Image:
        # The hand moves over the table: the table turns and shifts below it.
        centre = (_WIDTH + 190 * float(np.sin(pose[0])), _HEIGHT + 130 * float(np.sin(pose[1])))
        matrix = cv2.getRotationMatrix2D(centre, float(np.degrees(pose[4])) * 0.5, 1.25 + 0.2 * float(np.sin(pose[3])))
        matrix[:, 2] += np.array([_WIDTH / 2 - centre[0], _HEIGHT / 2 - centre[1]])
        image: Image = cv2.warpAffine(self._table, matrix, (_WIDTH, _HEIGHT), borderMode=cv2.BORDER_REFLECT)  # type: ignore[assignment]
        _draw_gripper(image, opening_px=int(70 + 45 * np.sin(pose[6])))
        return image


def _draw_objects(image: Image, centre: tuple[int, int], *, scale: float) -> None:
    """Draw a tray and a cube around a point of the table."""
    x, y = centre
    tray = [int(value * scale) for value in (30, -45, 150, 45)]
    cv2.rectangle(image, (x + tray[0], y + tray[1]), (x + tray[2], y + tray[3]), (60, 60, 64), -1)
    cv2.rectangle(image, (x + tray[0] + 8, y + tray[1] + 8), (x + tray[2] - 8, y + tray[3] - 8), (110, 112, 118), -1)
    side = int(44 * scale)
    corner = (x - int(90 * scale), y - side // 2)
    cv2.rectangle(image, corner, (corner[0] + side, corner[1] + side), (40, 40, 200), -1)
    top = np.array([corner, (corner[0] + side // 3, corner[1] - side // 3), (corner[0] + 4 * side // 3, corner[1] - side // 3),
                    (corner[0] + side, corner[1])])  # fmt: skip
    cv2.fillConvexPoly(image, top, (80, 80, 235))


def _draw_arm(image: Image, pose: Joints, *, base: tuple[int, int], direction: int) -> None:
    """Draw a follower from its base to its gripper: four links whose angles are the joints."""
    point = np.array(base, np.float64)
    angle = -1.25 + 0.5 * pose[0]
    cv2.circle(image, base, 34, (52, 50, 48), -1)
    for index, (length, width) in enumerate(((105, 26), (95, 22), (75, 18), (40, 14))):
        following = point + length * np.array([direction * np.cos(angle), np.sin(angle)])
        ends = (int(point[0]), int(point[1])), (int(following[0]), int(following[1]))
        cv2.line(image, *ends, (225, 222, 216), width, cv2.LINE_AA)
        cv2.circle(image, ends[0], width * 2 // 3, (48, 120, 235), -1, cv2.LINE_AA)
        point = following
        angle += 0.75 + 0.55 * pose[index + 1]
    for sign in (-1, 1):
        spread = angle - 0.7 + sign * (0.3 + 0.2 * np.sin(pose[6]))
        tip = point + 34 * np.array([direction * np.cos(spread), np.sin(spread)])
        cv2.line(image, (int(point[0]), int(point[1])), (int(tip[0]), int(tip[1])), (40, 40, 44), 8, cv2.LINE_AA)


def _draw_gripper(image: Image, *, opening_px: int) -> None:
    """Draw the two fingers that a wrist camera always sees."""
    for sign in (-1, 1):
        inner = _WIDTH // 2 + sign * opening_px
        finger = np.array([(inner, 330), (inner + sign * 22, 325), (inner + sign * 70, _HEIGHT), (inner + sign * 20, _HEIGHT)])
        cv2.fillConvexPoly(image, finger, (46, 44, 42), cv2.LINE_AA)
        cv2.circle(image, (inner + sign * 30, 430), 9, (48, 120, 235), -1, cv2.LINE_AA)
