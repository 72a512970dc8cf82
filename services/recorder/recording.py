"""The story of a recording: look at the dataset, open everything, run the session, release the arms, bring everything out.

Nothing moves before every check has passed. What a session asks for is performed in its order; saving goes on beside the next
episode, in a process of its own. The arms are released before anything is waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.recorder.cameras.process import Cameras, running_cameras
from services.recorder.cameras.reports import CameraProblem
from services.recorder.clock import Clock
from services.recorder.conductor import Conductor
from services.recorder.console import Console
from services.recorder.control import ControlLoop, reachable_rate
from services.recorder.options import notices
from services.recorder.order import Order
from services.recorder.recipe import chosen_codec, expected_strategy, overrun_s, strategy_overrides
from services.recorder.robots.errors import TorqueUnconfirmed
from services.recorder.robots.robot import connected_robot
from services.recorder.room import check_room
from services.recorder.saver import Saver, running_saver
from services.recorder.saving.episode import FinishedEpisode
from services.recorder.saving.news import SaverNews
from services.recorder.saving.outbox import recorded_episodes
from services.recorder.session import Course, Key, Phase, Session
from services.recorder.take import Take, Taker
from services.recorder.target import Target, check_target, find_target
from services.recorder.wording import RecorderStatus, news_text, status_line, take_text
from shared.errors import EpisodeflowError, Refused
from shared.ledger import Ledger
from shared.store import StorePool
from shared.store_object import Patience

_SHOWN_EVERY_S = 0.1
_ROUNDS_PER_LINE = 5
_PATIENCE = Patience(connect_timeout_s=3.0, read_timeout_s=10.0, max_attempts=2)
"""Somebody stands before the robot and waits; what cannot be asked now is remembered."""


class Recording:
    """One run of the recorder; ``run`` does it.

    Args:
        order: what is to be recorded.
        console: the person at the robot.
    """

    def __init__(self, order: Order, console: Console) -> None:
        self.kept: list[str] = []
        self.target: Target | None = None
        self._order = order
        self._console = console
        self._conductor: Conductor | None = None
        self._loop: ControlLoop | None = None
        self._cameras: Cameras | None = None
        self._saver: Saver | None = None
        self._saving: set[asyncio.Task[None]] = set()
        self._problems: dict[str, str] = {}

    async def run(self, stopping: asyncio.Event, leaving: asyncio.Event) -> None:
        """Record until the session is over, and wait until everything has gone out.

        Args:
            stopping: set to end the session.
            leaving: set when nobody wants to wait any more.

        Raises:
            EpisodeflowError: one sentence; before anything moves where a check can tell.
        """
        order, tell = self._order, self._console.tell
        expected_strategy(order.options)
        for notice in notices(order.options):
            tell(f"notice: {notice}")
        async with AsyncExitStack() as stack:
            target = await self.look()
            check_target(order.options, target, codec=self._codec(target), is_either=order.is_by_hand)
            if target.is_remembered:
                tell(f"{target.uri} cannot be asked now; going by what was seen last: {target.summary}")
            if target.num_there:
                tell(f"Dataset resumed: {target.uri}: {target.summary}")
            self._check_room()
            running = running_saver(order.folder, config_path=order.loaded.path, source=order.source, on_progress=self._tell_news)
            self._saver = await stack.enter_async_context(running)
            if target.num_there >= order.options.dataset.num_episodes and not order.is_by_hand:
                tell(
                    f"{target.num_there} of {order.options.dataset.num_episodes} episodes are there: nothing to record; "
                    "raise --dataset.num_episodes to record more"
                )
                await self._gone_out(leaving)
                return
            try:
                await self._recorded(target, stopping)
            except EpisodeflowError as error:
                if self._conductor is not None:
                    self._console.say("The recording ends early")
                for warning in [str(error)] if isinstance(error, TorqueUnconfirmed) else getattr(error, "__notes__", ()):
                    self._console.say(warning)  # whoever stands beside the arms must not wait until everything has gone out
                raise
            finally:
                await self._gone_out(leaving)

    async def look(self) -> Target:
        """Return what the dataset holds now, and what is on its way to it.

        Raises:
            BadDataset: something else lies there.
            Refused, BadConfig: the store may not be read.
        """
        order, repo_id = self._order, self._order.options.dataset.repo_id
        storage = order.loaded.storage
        place = order.loaded.places().dataset(repo_id)
        recorded = await asyncio.to_thread(recorded_episodes, order.folder, repo_id)
        async with StorePool(storage.bos, patience=_PATIENCE) as stores, Ledger(storage.redis) as ledger:
            target = await find_target(place, recorded, stores=stores, ledger=ledger, folder=order.folder, repo_id=repo_id)
        self.target = target
        return target

    @property
    def source(self) -> str:
        """The name under which episodes are published."""
        return self._order.source

    async def ask(self, key: Key, *, expected: Phase) -> None:
        """Press a key for somebody who waits for what follows; see ``Conductor.ask``.

        Raises:
            Refused: no session is running.
        """
        if self._conductor is None:
            raise Refused(f"the recorder is {self.status().phase}: ask again when it is waiting")
        await self._conductor.ask(key, expected=expected)

    def set_task(self, task: str) -> None:
        """Give the episodes from the next one on another instruction."""
        if self._conductor:
            self._conductor.taker.task = task

    def status(self) -> RecorderStatus:
        """Return what is going on."""
        dataset, now_s = self._order.options.dataset, time.monotonic()
        session = self._conductor.session if self._conductor else None
        cameras = self._cameras.status if self._cameras else {}
        return RecorderStatus(
            phase=self._phase(session),
            episode=session.number if session else 0,
            num_episodes=dataset.num_episodes,
            dataset=dataset.repo_id,
            task=self._conductor.taker.task if self._conductor else dataset.single_task,
            elapsed_s=round(session.elapsed_s(now_s=now_s), 3) if session else 0.0,
            num_waiting=self._num_waiting,
            rate_hz=round(self._loop.status.rate_hz, 1) if self._loop else 0.0,
            cameras={name: round(status.fps, 1) for name, status in cameras.items()},
            problems=tuple(self._problems.values()),
        )

    def _phase(self, session: Session | None) -> str:
        if session is None:
            return "starting"
        is_idle = session.phase is Phase.RESETTING and self._order.is_by_hand
        return "waiting" if is_idle else session.phase.value

    def _check_room(self) -> None:
        check_room(self._order.folder, needed_bytes=self._order.options.episode_bytes)

    # --- the session ----------------------------------------------------------------------------------

    async def _recorded(self, target: Target, stopping: asyncio.Event) -> None:
        order, clock = self._order, Clock.started()
        options = order.options
        async with AsyncExitStack() as hands:
            try:
                async with _until(stopping):
                    self._cameras = await self._seeing(hands, clock)
                    loop = self._loop = await self._holding(hands, clock)
            except TimeoutError:
                self._console.say("Stopped before the first episode")
                return
            taker = Taker(
                options=options,
                source=order.source,
                overrides=strategy_overrides(options, codec=self._codec(target), usual=order.loaded.strategy.video),
                folder=order.folder,
                clock=clock,
                loop=loop,
                cameras=self._cameras,
            )
            self._conductor = Conductor(
                session=Session(self._course(target), now_s=time.monotonic()),
                taker=taker,
                cameras=self._cameras,
                console=self._console,
                check_room=self._check_room,
                keep=self._keep,
            )
            if not order.is_by_hand:
                self._console.tell("Keys: right arrow or n goes on, left arrow or r records again, Esc or q stops")
            await self._driven(loop, self._conductor, clock, stopping)
        self._loop = self._cameras = None

    async def _seeing(self, hands: AsyncExitStack, clock: Clock) -> Cameras:
        options = self._order.options
        opened = running_cameras(options.cameras, clock=clock, display=options.display, on_problem=self._on_camera)
        cameras = await hands.enter_async_context(opened)
        if cameras.display_problem:
            self._console.tell(f"notice: {cameras.display_problem}")
        return cameras

    async def _holding(self, hands: AsyncExitStack, clock: Clock) -> ControlLoop:
        """Open the arms; from here on they have torque."""
        options, environ = self._order.options, self._order.environ
        robot = await hands.enter_async_context(connected_robot(options.robot, kind="robot", environ=environ))
        teleop = await hands.enter_async_context(connected_robot(options.teleop, kind="teleop", environ=environ))
        rate_hz, slower = await reachable_rate(robot, teleop, wanted_hz=options.control_rate_hz)
        if slower:
            self._console.tell(slower)
        return ControlLoop(robot, teleop, rate_hz=rate_hz, clock=clock, on_problem=self._on_arm)

    def _codec(self, target: Target) -> str:
        return chosen_codec(self._order.options, existing=target.codec, usual=self._order.loaded.strategy.video.codec)

    def _course(self, target: Target) -> Course:
        dataset = self._order.options.dataset
        return Course(
            num_there=target.num_there,
            num_wanted=dataset.num_episodes,
            episode_time_s=dataset.episode_time_s + overrun_s(self._order.options),
            reset_time_s=math.inf if self._order.is_by_hand else dataset.reset_time_s,
            is_held=self._order.options.hold_during_reset,
            is_by_hand=self._order.is_by_hand,
        )

    async def _driven(self, loop: ControlLoop, conductor: Conductor, clock: Clock, stopping: asyncio.Event) -> None:
        """Run the session while the leaders drive the followers; whichever ends first ends both."""
        driving = asyncio.create_task(loop.run())
        conducting = asyncio.create_task(conductor.run())
        stories = (self._listen(conductor), _interrupt(conductor, stopping), self._show(conductor.session, clock))
        helping = [asyncio.create_task(story) for story in stories]
        try:
            await asyncio.wait({driving, conducting}, return_when=asyncio.FIRST_COMPLETED)
            if driving.done() and not conducting.done():
                # The arms are gone: what was recorded up to now is kept.
                conductor.press(Key.STOP)
                await conducting
                driving.result()
            await conducting
        finally:
            self._console.show("")
            for task in (*helping, driving, conducting):
                task.cancel()
            await asyncio.gather(*helping, driving, conducting, return_exceptions=True)
            conductor.close()

    def _keep(self, take: Take) -> None:
        """Hand an episode over to the saver; the next one does not wait for it."""
        for problem in take.problems:
            self._console.tell(f"Episode {take.number} is marked: {problem}")
        self._console.tell(f"Episode {take.number} submitted for saving ({take_text(take)})")
        self.kept.append(take.event.episode_id)
        assert self._conductor is not None
        task = asyncio.create_task(self._save(self._conductor.taker.finished(take), take.number))
        self._saving.add(task)
        task.add_done_callback(self._saving.discard)

    async def _save(self, finished: FinishedEpisode, number: int) -> None:
        assert self._saver is not None
        try:
            await self._saver.save(finished)
        except EpisodeflowError as error:
            self._console.say(f"Episode {number} is not saved: {error}")

    # --- what comes in meanwhile ----------------------------------------------------------------------

    async def _listen(self, conductor: Conductor) -> None:
        while True:
            conductor.press(await self._console.key())

    async def _show(self, session: Session, clock: Clock) -> None:
        """Keep the status line and the display up to date."""
        assert self._loop is not None
        assert self._cameras is not None
        for count in itertools.count():
            await asyncio.sleep(_SHOWN_EVERY_S)
            if count % _ROUNDS_PER_LINE == 0:
                self._console.show(status_line(self.status(), remaining_s=session.remaining_s(now_s=time.monotonic())))
            if self._order.options.display is not None:
                positions = self._loop.positions
                joints = {f"leader.{name}": value for name, value in positions.leader.items()}
                self._cameras.show(joints | {f"follower.{name}": value for name, value in positions.follower.items()}, clock.now_us())

    def _on_camera(self, problem: CameraProblem) -> None:
        if problem.is_over:
            self._problems.pop(problem.camera, None)
        else:
            self._problems[problem.camera] = problem.message
            self._note(problem.message)
        self._console.say(problem.message)

    def _on_arm(self, problem: str) -> None:
        self._note(problem)
        self._console.say(problem)

    def _tell_news(self, news: SaverNews) -> None:
        self._console.tell(news_text(news))

    def _note(self, problem: str) -> None:
        if self._conductor:
            self._conductor.taker.note(problem)

    # --- after ----------------------------------------------------------------------------------------

    @property
    def _num_waiting(self) -> int:
        return self._saver.num_waiting if self._saver else 0

    async def _gone_out(self, leaving: asyncio.Event) -> None:
        """Wait until every episode is saved, and then until all are announced or nobody wants to wait any more."""
        assert self._saver is not None
        if self._saving:
            await asyncio.wait(set(self._saving))
        drained, left = asyncio.create_task(self._saver.drained()), asyncio.create_task(leaving.wait())
        try:
            while not (await asyncio.wait({drained, left}, timeout=_SHOWN_EVERY_S, return_when=asyncio.FIRST_COMPLETED))[0]:
                self._console.show(f"{self._saver.num_waiting} episodes wait to be announced (Ctrl-C leaves them for the next start)")
        finally:
            self._console.show("")
            for task in (drained, left):
                task.cancel()
            await asyncio.gather(drained, left, return_exceptions=True)
        if self._saver.num_waiting:
            self._console.tell(f"{self._saver.num_waiting} episodes wait in {self._order.folder}: they go out at the next start")


@asynccontextmanager
async def _until(event: asyncio.Event) -> AsyncIterator[None]:
    """Give up the block when the event is set.

    Raises:
        TimeoutError: it was.
    """
    async with asyncio.timeout(None) as limit:

        async def watch() -> None:
            await event.wait()
            limit.reschedule(0.0)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()


async def _interrupt(conductor: Conductor, stopping: asyncio.Event) -> None:
    await stopping.wait()
    conductor.press(Key.INTERRUPT)
