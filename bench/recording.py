"""(d) How punctual the control loop is: the simulated bimanual robot, in a process of its own, driven at 200 Hz.

Three cameras and the saver, each in their process, work beside it as in a recording; a second episode begins while the first
is saved. In one more process an empty loop ticks at the same rate at the same time: what it misses, the machine takes.
The lateness of a tick is how long after its time it began; the spacing is what the data has, between two samples of an arm.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import psutil

from bench.raw import strategy_document
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.process import Cameras, running_cameras
from services.recorder.cameras.reports import CameraReport
from services.recorder.clock import Clock
from services.recorder.control import ControlLoop, reachable_rate
from services.recorder.joints import JointRecording
from services.recorder.priority import real_time_priority
from services.recorder.robots.models import RobotOptions
from services.recorder.robots.robot import Robot, connected_robot
from services.recorder.saver import Saver, running_saver
from services.recorder.saving.episode import ArmSamples, FinishedEpisode
from services.recorder.ticker import ticking
from services.recorder.timing import NS_PER_S, LoopReport, Percentiles, TickCounts
from shared.events import EpisodeReady

SOURCE = "bench"
RATE_HZ = 200.0
SECONDS = 60.0
CAMERA_NAMES = ("left", "right", "top")
CAMERA_FPS = 30
_SETTLING_S = 2.0
_WHILE_SAVING_S = 3.0
_PORTS_BY_ROLE = {"robot": "follower", "teleop": "leader"}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One recording: its joints, what an empty loop had meanwhile, and shares of one core by process."""

    joints: JointRecording
    empty: EmptyLoop
    core_shares: dict[str, float]
    end_ms: float
    is_real_time: bool
    while_saving: LoopReport
    problems: list[str]
    cameras: dict[str, CameraReport]


class EmptyLoop(msgspec.Struct, frozen=True, kw_only=True):
    """Ticks of a loop that does nothing."""

    num_ticks: int
    num_missed: int
    num_late_2_periods: int
    lateness: Percentiles


@contextmanager
def simulator(folder: Path) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Run ``episodeflow simulate`` for the block; give its process and its ports."""
    ports = folder / "ports.json"
    program = str(Path(sys.executable).with_name("episodeflow"))
    command = [program, "simulate", "--json", str(ports), "--calibration", str(folder / "calibration"), "--id", "bench"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 30
        while not ports.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.05)
        yield psutil.Process(process.pid), json.loads(ports.read_text())
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def connected(ports: dict[str, str], folder: Path) -> AsyncIterator[tuple[Robot, Robot]]:
    """Give the followers and the leaders of the simulated robot."""
    environ = {"HF_LEROBOT_CALIBRATION": str(folder / "calibration")}
    async with AsyncExitStack() as stack:
        robot, teleop = [
            await stack.enter_async_context(
                connected_robot(
                    RobotOptions(
                        type=f"bi_so100_{role}", id="bench", left_arm_port=ports[f"left_{role}"], right_arm_port=ports[f"right_{role}"]
                    ),
                    kind=kind,  # type: ignore[arg-type]
                    environ=environ,
                )
            )
            for kind, role in _PORTS_BY_ROLE.items()
        ]
        yield robot, teleop


@asynccontextmanager
async def simulated_cameras(clock: Clock, problems: list[str]) -> AsyncIterator[Cameras]:
    """Give three synthetic cameras in their process."""
    options = {
        name: CameraOptions(type="opencv", index_or_path=f"sim://{name}", width=640, height=480, fps=CAMERA_FPS) for name in CAMERA_NAMES
    }
    async with running_cameras(options, clock=clock, on_problem=lambda problem: problems.append(problem.message)) as cameras:
        yield cameras


def empty_loop(connection: Connection) -> None:
    """Tick without work between two messages, then send what became of the ticks."""
    connection.send(asyncio.run(_empty_ticks(connection)))


async def _empty_ticks(connection: Connection) -> EmptyLoop:
    connection.send(None)
    counts = TickCounts(period_ns=round(NS_PER_S / RATE_HZ))
    is_over = asyncio.Event()
    connection.recv()
    asyncio.get_running_loop().add_reader(connection.fileno(), is_over.set)
    with real_time_priority(), ticking(rate_hz=RATE_HZ, on_tick=counts.add):
        await is_over.wait()
    return EmptyLoop(
        num_ticks=counts.num_ticks,
        num_missed=counts.num_missed,
        num_late_2_periods=counts.num_late_2_periods,
        lateness=counts.lateness,
    )


@asynccontextmanager
async def saving(folder: Path) -> AsyncIterator[Saver]:
    """Give a saver without a network: what it saves waits on disk."""
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(strategy_document()))
    document = {
        "store": (folder / "store").as_uri(),
        "nats": {"servers": ["nats://127.0.0.1:1"]},
        "sources": [SOURCE],
        "conversion": {"config_template": str(folder / "strategy.yaml")},
    }
    config = folder / "storage.yaml"
    config.write_bytes(msgspec.yaml.encode(document))
    async with running_saver(folder / "recorder", config_path=config, source=SOURCE, on_progress=lambda _: None) as saver:
        yield saver


def finished(joints: JointRecording, folder: Path, *, num_frames: int) -> FinishedEpisode:
    """Return an episode as the recorder hands it to the saver."""
    return FinishedEpisode(
        event=EpisodeReady(episode_id=folder.name, source=SOURCE, timestamp=time.time()),
        folder=folder,
        arms=tuple(ArmSamples(arm=name, times_us=arm.times_us, values=arm.values) for name, arm in joints.arms.items()),
        metadata={},
        num_frames=num_frames,
    )


class Rig(msgspec.Struct, kw_only=True):
    """Everything that runs during a recording."""

    loop: ControlLoop
    cameras: Cameras | None
    saver: Saver
    processes: dict[str, psutil.Process]
    folder: Path
    problems: list[str]


@asynccontextmanager
async def running_rig(folder: Path, *, is_with_cameras: bool) -> AsyncIterator[Rig]:
    """Start everything, and give it once the followers are where the leaders are."""
    clock, problems = Clock.started(), []
    async with AsyncExitStack() as stack:
        simulated, ports = stack.enter_context(simulator(folder))
        robot, teleop = await stack.enter_async_context(connected(ports, folder))
        rate_hz, sentence = await reachable_rate(robot, teleop, wanted_hz=RATE_HZ)
        problems += [sentence] if sentence else []
        loop = ControlLoop(robot, teleop, rate_hz=rate_hz, clock=clock, on_problem=problems.append)
        cameras = await stack.enter_async_context(simulated_cameras(clock, problems)) if is_with_cameras else None
        saver = await stack.enter_async_context(saving(folder))
        processes = {"control": psutil.Process(), "simulator": simulated, "saver": psutil.Process(saver.pid)}
        processes |= {"cameras": psutil.Process(cameras.pid)} if cameras else {}
        driving = asyncio.create_task(loop.run())
        try:
            await asyncio.sleep(_SETTLING_S)
            recording = folder / "recorder" / "recording"
            yield Rig(loop=loop, cameras=cameras, saver=saver, processes=processes, folder=recording, problems=problems)
        finally:
            driving.cancel()
            await asyncio.wait({driving})


async def measured(rig: Rig, *, seconds: float) -> Measured:
    """Record once, and once more while that is saved; return what was found."""
    own_end, other_end = multiprocessing.Pipe()
    empty = multiprocessing.get_context("spawn").Process(target=empty_loop, args=(other_end,))
    empty.start()
    await asyncio.to_thread(own_end.recv)  # it is there
    folder = rig.folder / "episode_0001"
    stolen_s, before = psutil.cpu_times().steal, {name: _core_s(process) for name, process in rig.processes.items()}
    own_end.send(None)
    if rig.cameras:
        await rig.cameras.start(folder / "images")
    rig.loop.begin()
    await asyncio.sleep(seconds)
    begin_s = time.perf_counter()
    joints = rig.loop.end()
    end_ms = 1000 * (time.perf_counter() - begin_s)
    own_end.send(None)
    shares = {name: (_core_s(process) - before[name]) / seconds for name, process in rig.processes.items()}
    shares["stolen by other machines"] = (psutil.cpu_times().steal - stolen_s) / seconds
    rig.loop.begin()
    reports = await rig.cameras.stop() if rig.cameras else {}
    num_frames = sum(report.num_frames for report in reports.values())
    await asyncio.gather(rig.saver.save(finished(joints, folder, num_frames=num_frames)), asyncio.sleep(_WHILE_SAVING_S))
    found = Measured(
        joints=joints,
        empty=await asyncio.to_thread(own_end.recv),
        core_shares=shares,
        end_ms=end_ms,
        is_real_time=rig.loop.status.is_real_time,
        while_saving=rig.loop.end().report,
        cameras=reports,
        problems=rig.problems,
    )
    empty.join()
    return found


async def recorded(folder: Path, *, seconds: float, is_with_cameras: bool) -> Measured:
    """Return what a recording in this folder found."""
    async with running_rig(folder, is_with_cameras=is_with_cameras) as rig:
        return await measured(rig, seconds=seconds)


def _core_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _spacing_us(joints: JointRecording) -> np.ndarray:
    """Return how far the time between two samples is from the period, over all arms."""
    period_us = 1e6 / joints.report.wanted_rate_hz
    return np.concatenate([np.abs(np.diff(arm.times_us) - period_us) for arm in joints.arms.values()])


def _ticks_text(found: LoopReport | EmptyLoop) -> str:
    late, num_late = found.lateness, found.num_late_2_periods
    return (
        f"lateness p50 {late.p50_us} us, p95 {late.p95_us}, p99 {late.p99_us}, max {late.max_us}; given up {found.num_missed}, "
        f"more than 2 periods after the last {num_late} of {found.num_ticks} ({num_late / found.num_ticks:.3%})"
    )


def show(found: Measured) -> None:
    """Print one line a figure."""
    report = found.joints.report
    load = ", ".join(f"{one:.2f}" for one in psutil.getloadavg())
    priority = "real-time priority" if found.is_real_time else "no real-time priority"
    print(f"recording: {report.measured_rate_hz:.2f} Hz measured, {report.wanted_rate_hz:g} wanted, {priority}, load of the machine {load}")
    print(f"recording: ticks: {_ticks_text(report)} (wanted at most 0.1 %)")
    print(f"recording: an empty loop meanwhile: {_ticks_text(found.empty)}")
    print(f"recording: ticks while the episode was saved: {_ticks_text(found.while_saving)}")
    p50, p99, last = np.percentile(_spacing_us(found.joints), [50, 99, 100])
    print(f"recording: spacing of samples off the period: p50 {p50:.0f} us, p99 {p99:.0f} us, max {last:.0f} us")
    print(
        f"recording: longest gap {report.longest_gap_ms:.1f} ms, bus errors {report.bus_errors_by_arm}, samples {report.num_samples_by_arm}"
    )
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.core_shares.items())
    print(f"recording: share of one core: {shares}; ending the episode took {found.end_ms:.2f} ms")
    for name, camera in found.cameras.items():
        print(
            f"recording: camera {name}: {camera.num_frames} frames, {camera.measured_fps:.2f} fps, lost {camera.num_lost}, "
            f"late {camera.num_late}, longest gap {camera.longest_gap_ms:.1f} ms"
        )
    for line in found.problems:
        print(f"recording: problem: {line}", flush=True)


def main(arguments: Sequence[str] = ()) -> None:
    """Record once and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.recording", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--cameras", action=argparse.BooleanOptionalAction, default=True, help="three of 640x480 at 30 fps beside the arms")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        show(asyncio.run(recorded(Path(folder), seconds=options.seconds, is_with_cameras=options.cameras)))


if __name__ == "__main__":
    main(sys.argv[1:])
