"""Performs what a session asks for, in its order, and answers whoever asked.

Keys come in from a person at the robot or over the bus; the session decides what they mean, this does it. An episode of which
nothing can be made is not counted, and none is begun while a camera is silent.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from services.recorder.cameras.process import Cameras
from services.recorder.console import Console
from services.recorder.session import Begin, Command, Cue, Drop, End, Keep, Key, Phase, Session
from services.recorder.take import Take, Taker
from shared.errors import DiskFull, EpisodeflowError, Refused

_CAMERA_PAUSE_S = 2.0


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """A key that was pressed; ``done`` is for somebody who waits for what it does in the phase that they expect."""

    key: Key
    expected: Phase | None = None
    done: asyncio.Future[None] | None = None

    def fulfil(self) -> None:
        """Tell that it is done."""
        if self.done and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: EpisodeflowError) -> None:
        """Tell why it is not."""
        if self.done and not self.done.done():
            self.done.set_exception(error)


class Conductor:
    """Conducts one session.

    Args:
        session: decides.
        taker: begins and ends episodes.
        cameras: whether frames come.
        console: hears the cues.
        check_room: raises DiskFull where an episode has no room.
        keep: takes an episode that is to be saved.
    """

    def __init__(
        self,
        *,
        session: Session,
        taker: Taker,
        cameras: Cameras,
        console: Console,
        check_room: Callable[[], None],
        keep: Callable[[Take], None],
    ) -> None:
        self.session = session
        self.taker = taker
        self._cameras = cameras
        self._console = console
        self._check_room = check_room
        self._keep = keep
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue()
        self._ended: Take | None = None
        self._trouble: str | None = None

    def press(self, key: Key) -> None:
        """Press a key, as the person at the robot does."""
        self._wishes.put_nowait(Wish(key=key))

    async def ask(self, key: Key, *, expected: Phase) -> None:
        """Press a key, and return once everything that follows from it has been done.

        Args:
            key: which one.
            expected: the phase in which it means what is wanted; requests that came before this one may have changed it.

        Raises:
            Refused: the session is in another phase, or over, or a camera is silent.
            DiskFull, CameraUnreachable: an episode could not be begun or ended.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wishes.put_nowait(Wish(key=key, expected=expected, done=done))
        if self.session.phase is Phase.ENDED:
            self.close()
        await done

    def close(self) -> None:
        """Answer whoever still waits: there will be no more."""
        while not self._wishes.empty():
            self._wishes.get_nowait().fail(Refused("the recorder has ended: start it again"))

    async def run(self) -> None:
        """Perform what the session asks for, until it is over.

        Raises:
            DiskFull: there is no room for an episode, and nobody waits for the answer.
            CameraUnreachable: the process of the cameras has ended.
        """
        session = self.session
        await self._perform(session.begin(now_s=time.monotonic()))
        while session.phase is not Phase.ENDED:
            remaining_s = session.remaining_s(now_s=time.monotonic())
            try:
                async with asyncio.timeout(remaining_s if remaining_s < math.inf else None):
                    wish = await self._wishes.get()
            except TimeoutError:
                await self._perform(session.advance(now_s=time.monotonic()))
            else:
                await self._granted(wish)

    async def _granted(self, wish: Wish) -> None:
        """Do what somebody wants; whoever waits for it gets what went wrong as the answer, and the session goes on."""
        if wish.expected not in {None, self.session.phase}:
            wish.fail(Refused(f"the recorder is {self.session.phase} meanwhile: ask for its status"))
            return
        try:
            await self._perform(self.session.press(wish.key, now_s=time.monotonic()), is_answered=wish.done is not None)
        except (DiskFull, Refused) as error:
            if wish.done is None:
                raise
            wish.fail(error)
        except BaseException as error:
            wish.fail(error if isinstance(error, EpisodeflowError) else Refused("the recorder has ended: start it again"))
            raise
        else:
            wish.fulfil()

    async def _perform(self, commands: Sequence[Command], *, is_answered: bool = False) -> None:
        pending, problem = deque(commands), None
        while pending:
            command = pending.popleft()
            match command:
                case Cue(text):
                    self._console.say(text)
                case Begin():
                    if not await self._has_begun(is_answered=is_answered):
                        return
                case End(number):
                    is_dropped = bool(pending) and isinstance(pending[0], Drop)
                    if not await self._is_usable(number, is_dropped=is_dropped):
                        pending = deque(self.session.unusable(now_s=time.monotonic()))
                        problem = Refused(f"episode {number} cannot be used: it is not kept, record it again")
                case Keep(number):
                    self._keep(self._taken(number))
                case Drop(number):
                    await self.taker.forget(self._taken(number))
        if problem and is_answered:
            raise problem

    async def _has_begun(self, *, is_answered: bool) -> bool:
        """Begin an episode, or put it off: while a camera is silent, or because there is no room for it."""
        session, now_s = self.session, time.monotonic()
        silent = [name for name, status in self._cameras.status.items() if not status.is_delivering]
        if silent:
            session.postpone(now_s=now_s, pause_s=_CAMERA_PAUSE_S)
            trouble = f"no frames come from {', '.join(silent)}: an episode begins when they do"
            if is_answered:
                raise Refused(trouble)
            if trouble != self._trouble:
                self._console.say(trouble)
            self._trouble = trouble
            return False
        try:
            self._check_room()
        except DiskFull:
            session.postpone(now_s=now_s)
            raise
        self._trouble = None
        await self.taker.begin()
        return True

    async def _is_usable(self, number: int, *, is_dropped: bool) -> bool:
        """End an episode; say whether something can be made of it, or nobody wants to."""
        take = self._ended = await self.taker.end(number)
        if is_dropped or not take.missing:
            return True
        self._console.say(f"Episode {number} cannot be used, {take.missing}: it is not kept")
        await self.taker.forget(take)
        return False

    def _taken(self, number: int) -> Take:
        assert self._ended is not None
        assert self._ended.number == number
        return self._ended
