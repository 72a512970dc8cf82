"""What a person is told about a recording, in words. Pure."""

from __future__ import annotations

import math

import msgspec

from services.recorder.saving.news import Announced, Flowing, HeldBack, Removed, Restarted, Saved, SaverNews, Unsaved, Waiting
from services.recorder.take import Take


class RecorderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a recorder is doing.

    Attributes:
        phase: ``starting``, ``recording``, ``resetting`` (``waiting`` where episodes are asked for) or ``ended``.
        episode: number of the episode that is being recorded or comes next, counted from one.
        num_episodes: how many the dataset shall have.
        elapsed_s: how long the phase has lasted.
        num_waiting: episodes that are saved here and not announced yet.
        rate_hz: of the control loop, measured.
        cameras: frames per second by camera, measured.
        problems: what is wrong right now.
    """

    phase: str
    episode: int
    num_episodes: int
    dataset: str
    task: str
    elapsed_s: float
    num_waiting: int
    rate_hz: float
    cameras: dict[str, float]
    problems: tuple[str, ...]


def status_line(status: RecorderStatus, *, remaining_s: float) -> str:
    """Return what is going on in one line."""
    cameras = "  ".join(f"{name} {fps:.0f} fps" for name, fps in status.cameras.items())
    whole = "" if math.isinf(remaining_s) else f"/{status.elapsed_s + remaining_s:.0f}"
    waiting = f"  {status.num_waiting} waiting" if status.num_waiting else ""
    problems = "".join(f"  ! {problem}" for problem in status.problems)
    return (
        f"{status.phase} {status.episode}/{status.num_episodes}  {status.elapsed_s:.0f}{whole} s  "
        f"arms {status.rate_hz:.0f} Hz  {cameras}{waiting}{problems}"
    )


def news_text(news: SaverNews) -> str:
    """Return what a person is told of the saver's news."""
    match news:
        case Saved():
            text = f"{news.episode_id} saved ({news.num_bytes / 1e6:.1f} MB in {news.duration_s:.2f} s)"
        case Announced():
            text = f"{news.episode_id} announced {news.delay_s * 1000:.0f} ms after its end"
        case Waiting():
            text = f"{news.num_waiting} episodes wait on this disk: {news.reason}"
        case Flowing():
            text = f"the outage is over, {news.num_waiting} episodes go out now"
        case Removed():
            recorded = f"{news.num_frames} images, {news.duration_s:.0f} s"
            text = f"{news.episode_id} was being recorded when the recorder was killed: removed ({recorded})"
        case Unsaved() | HeldBack():
            text = f"{news.episode_id}: {news.sentence}"
        case Restarted():
            text = news.sentence
    return text


def take_text(take: Take) -> str:
    """Return how long an episode was, and how well its streams came."""
    seconds = (take.ended_us - take.begun_us) / 1e6
    frames = ", ".join(f"{name} {number}" for name, number in take.num_frames.items())
    report = take.joints.report
    missed = f", {report.num_missed} ticks missed" if report.num_missed else ""
    lost = sum(camera.num_lost for camera in take.cameras.values())
    return f"{seconds:.1f} s; frames: {frames}; arms {report.measured_rate_hz:.1f} Hz{missed}{f'; {lost} frames lost' if lost else ''}"
