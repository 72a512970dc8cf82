"""The recorder's cameras, read by a process of their own: open them, start, stop or discard an episode, hear of problems.

Reading, checking and writing frames holds Python's lock for milliseconds, which the control loop does not have.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from services.recorder.cameras.errors import CameraUnreachable
from services.recorder.cameras.link import Link
from services.recorder.cameras.messages import Discard, News, Open, Opened, Problem, Show, Start, Stop, Stopped
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.reports import CameraProblem, CameraReport, CameraStatus
from services.recorder.clock import Clock

_SHOW_INTERVAL_S = 1 / 30

OnProblem = Callable[[CameraProblem], None]


class Cameras:
    """The running cameras; made by ``running_cameras``.

    Args:
        link: to the process that reads them.
        clock: what the frames' times are told by.
        is_shown: whether something displays the joints.
        status: how each camera is; kept up to date by whoever made it.
        display_problem: why nothing is displayed although it was asked for; None if it is, or was not asked for.
    """

    def __init__(
        self, link: Link, *, clock: Clock, is_shown: bool, status: Mapping[str, CameraStatus], display_problem: str | None
    ) -> None:
        self.status = status
        self.display_problem = display_problem
        self._link = link
        self._clock = clock
        self._is_shown = is_shown
        self._is_recording = False
        self._shown_s = 0.0

    @property
    def pid(self) -> int:
        """The process that reads the cameras."""
        return self._link.pid

    async def start(self, folder: Path) -> None:
        """Have every frame captured from now on written to ``folder/{camera}/{timestamp_us}.jpg``.

        Raises:
            CameraUnreachable: the folder cannot be made, or the camera process is gone.
            ValueError: an episode has not ended; one whose start was cancelled wants to be discarded.
        """
        if self._is_recording:
            raise ValueError(f"the cameras still record: stop or discard that episode before {folder}")
        self._is_recording = True
        try:
            await self._link.ask(Start(str(folder), self._clock.now_us()))
        except CameraUnreachable:
            self._is_recording = False
            raise

    async def stop(self) -> dict[str, CameraReport]:
        """Return the reports by camera once every frame captured until now is written (not synced to the disk).

        Raises:
            CameraUnreachable: the camera process is gone.
            ValueError: nothing is being recorded.
        """
        if not self._is_recording:
            raise ValueError("the cameras record nothing that could stop")
        self._is_recording = False
        reply = await self._link.ask(Stop(self._clock.now_us()))
        assert isinstance(reply, Stopped)
        return reply.reports

    async def discard(self) -> None:
        """End without a report, or do nothing: the frames that were written are nobody's business.

        Raises:
            CameraUnreachable: the camera process is gone.
        """
        self._is_recording = False
        await self._link.ask(Discard())

    def show(self, joints: Mapping[str, float], time_us: int) -> None:
        """Display joints by name, at most 30 times a second; never waits, never fails."""
        now_s = time.monotonic()
        if self._is_shown and now_s - self._shown_s >= _SHOW_INTERVAL_S and self._link.post(Show(dict(joints), time_us)):
            self._shown_s = now_s


@asynccontextmanager
async def running_cameras(
    cameras: Mapping[str, CameraOptions], *, clock: Clock, display: str | None = None, on_problem: OnProblem
) -> AsyncIterator[Cameras]:
    """Open all cameras in a process of their own; inside the block they run.

    Args:
        cameras: options by name; the names become folders.
        clock: what the frames' times are told by.
        display: None: off; ``""`` or ``spawn``: a viewer on this screen; ``HOST:PORT`` of a viewer; a file ``*.rrd``.
        on_problem: called in the event loop when a camera stops, loses frames or delivers again, and for every camera
            when the process dies.

    Raises:
        CameraRefused: a camera is absent, forbidden, taken twice or delivers another size; the display is not installed.
        CameraUnreachable: a camera is in use or shows no frame; no viewer listens at ``display``.
    """
    status = {name: CameraStatus(fps=0.0, is_delivering=False) for name in cameras}
    is_open = False

    def on_news(news: News) -> None:
        if isinstance(news, Problem):
            on_problem(news.problem)
        else:
            status.update(news.cameras)

    def on_death(message: str) -> None:
        for name in status:
            status[name] = CameraStatus(fps=0.0, is_delivering=False)
            if is_open:
                on_problem(CameraProblem(camera=name, message=message))

    link = await Link.opened(on_news=on_news, on_death=on_death)
    try:
        opened = await link.ask(Open(dict(cameras), clock.offset_ns, display))
        assert isinstance(opened, Opened)
        is_open = True
        is_shown = display is not None and opened.display_problem is None
        yield Cameras(link, clock=clock, is_shown=is_shown, status=status, display_problem=opened.display_problem)
    finally:
        await link.close()
