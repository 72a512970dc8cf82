"""The course of a recording session: what a key or the clock means, and what is to be done. Pure.

Theory of operation. A session is in one of three phases: an episode is being recorded, the scene is being reset, or all is
over. Keys and time go in, commands come out; the shell performs them in order.

    RECORDING   right or time up → Keep, then RESETTING      left → Drop, then RESETTING      Esc → Keep, then ENDED
    RESETTING   right or time up → Begin, then RECORDING     left → re-record (see below)     Esc → ENDED

The last episode is followed by ENDED at once. An interruption (Ctrl-C, a signal) drops the episode that is being recorded.
With ``is_held`` an episode is kept only when its reset phase ends, so that left can still drop it there, as LeRobot does;
otherwise it is on its way the moment it ends, and left in the reset phase says so.
A session that is driven by hand (over the bus) starts in an endless reset phase and has no last episode: whoever drives it
looks at ``is_complete``.
"""

from __future__ import annotations

import math
from enum import StrEnum

import msgspec

SHORTEST_EPISODE_S = 0.3
"""A key pressed sooner than this is one that was pressed twice."""


class Phase(StrEnum):
    """Where a session is."""

    RECORDING = "recording"
    RESETTING = "resetting"
    ENDED = "ended"


class Key(StrEnum):
    """What a person, or the bus, can ask for."""

    NEXT = "next"
    REDO = "redo"
    STOP = "stop"
    INTERRUPT = "interrupt"


class Begin(msgspec.Struct, frozen=True):
    """Record an episode from now on; ``number`` counts from one over the whole dataset."""

    number: int


class End(msgspec.Struct, frozen=True):
    """Take no more samples; what becomes of the episode, a Keep or a Drop says."""

    number: int


class Keep(msgspec.Struct, frozen=True):
    """Save the episode that has ended."""

    number: int


class Drop(msgspec.Struct, frozen=True):
    """Forget the episode that has ended."""

    number: int


class Cue(msgspec.Struct, frozen=True):
    """Tell the person at the robot."""

    text: str


Command = Begin | End | Keep | Drop | Cue


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is to do.

    Attributes:
        num_there: episodes that the dataset has, or will have, before this session.
        num_wanted: how many it shall have in all.
        episode_time_s: longest time of an episode.
        reset_time_s: time between two episodes; infinite: until somebody asks for the next one.
        is_held: episodes are kept only when their reset phase ends.
        is_by_hand: wait to be asked for the first episode; the reset time should be infinite.
    """

    num_there: int
    num_wanted: int
    episode_time_s: float
    reset_time_s: float
    is_held: bool = False
    is_by_hand: bool = False


class Session:
    """The state of one session; every method returns what is to be done now.

    Args:
        course: what it is to do.
        now_s: a monotonic time in seconds, as for every other method.
    """

    def __init__(self, course: Course, *, now_s: float) -> None:
        self.course = course
        self.num_kept = 0
        self.phase = Phase.RESETTING
        self._since_s = now_s
        self._not_before_s = now_s
        self._held: int | None = None
        self._is_stopped = False

    @property
    def number(self) -> int:
        """The episode that is being recorded, or would be the next, counted from one."""
        return self.course.num_there + self.num_kept + 1

    @property
    def is_complete(self) -> bool:
        """Whether the dataset has what was wanted."""
        return self.course.num_there + self.num_kept >= self.course.num_wanted

    def begin(self, *, now_s: float) -> list[Command]:
        """Start the session: with the first episode, or by waiting for somebody to ask for it."""
        if self.course.is_by_hand:
            return []
        return self._ended([]) if self.is_complete else self._recording(now_s)

    def remaining_s(self, *, now_s: float) -> float:
        """Return how long the phase still takes by itself; infinite where only a person ends it."""
        longest_s = {Phase.RECORDING: self.course.episode_time_s, Phase.RESETTING: self.course.reset_time_s}.get(self.phase, math.inf)
        pause_s = self._not_before_s - now_s if self.phase is Phase.RESETTING else 0.0
        return max(0.0, longest_s - (now_s - self._since_s), pause_s)

    def elapsed_s(self, *, now_s: float) -> float:
        """Return how long the phase has lasted."""
        return now_s - self._since_s

    def advance(self, *, now_s: float) -> list[Command]:
        """Let time pass."""
        if self.phase is Phase.ENDED or self.remaining_s(now_s=now_s) > 0:
            return []
        return self._kept(now_s) if self.phase is Phase.RECORDING else self._reset_over(now_s)

    def unusable(self, *, now_s: float) -> list[Command]:
        """Count the episode that has just ended as not recorded, because nothing can be made of it; what follows replaces the rest."""
        self.num_kept -= 1
        self._held = None
        if self._is_stopped:
            return self._ended([])
        return self._recording(now_s) if self.phase is Phase.RECORDING else self._resetting(now_s)

    def postpone(self, *, now_s: float, pause_s: float = 0.0) -> None:
        """Go back to the reset phase: an episode could not be begun; it is tried again when that is over, not before the pause."""
        self.phase, self._since_s, self._not_before_s = Phase.RESETTING, now_s, now_s + pause_s

    def press(self, key: Key, *, now_s: float) -> list[Command]:
        """Take a wish."""
        if self.phase is Phase.RECORDING:
            return self._pressed_recording(key, now_s)
        return self._pressed_resetting(key, now_s) if self.phase is Phase.RESETTING else []

    def _pressed_recording(self, key: Key, now_s: float) -> list[Command]:
        # Whoever asks over the bus means it, however soon.
        is_meant = self.course.is_by_hand or self.elapsed_s(now_s=now_s) >= SHORTEST_EPISODE_S
        if key is Key.NEXT:
            return self._kept(now_s) if is_meant else []
        if key is Key.REDO:
            return self._dropped(now_s)
        self._is_stopped = True
        if key is Key.STOP and is_meant:
            number = self.number
            self.num_kept += 1
            return self._ended([End(number), Keep(number)])
        return self._ended([End(self.number), Drop(self.number)])

    def _pressed_resetting(self, key: Key, now_s: float) -> list[Command]:
        if key is Key.NEXT:
            return self._reset_over(now_s)
        if key is Key.REDO:
            return self._redone(now_s)
        self._is_stopped = True
        return self._ended(self._released())

    def _recording(self, now_s: float) -> list[Command]:
        self.phase, self._since_s = Phase.RECORDING, now_s
        return [Begin(self.number), Cue(f"Recording episode {self.number}/{self.course.num_wanted}")]

    def _kept(self, now_s: float) -> list[Command]:
        number = self.number
        self.num_kept += 1
        commands: list[Command] = [End(number)]
        if self.is_complete and not self.course.is_by_hand:
            return self._ended([*commands, Keep(number)])
        if self.course.is_held:
            self._held = number
        else:
            commands.append(Keep(number))
        return [*commands, *self._resetting(now_s)]

    def _dropped(self, now_s: float) -> list[Command]:
        number = self.number
        return [End(number), Drop(number), Cue(f"Episode {number} is discarded and will be recorded again"), *self._resetting(now_s)]

    def _resetting(self, now_s: float) -> list[Command]:
        self.phase, self._since_s = Phase.RESETTING, now_s
        if self.course.reset_time_s == 0 and self._held is None:
            return self._recording(now_s)
        return [Cue("Reset the environment")]

    def _reset_over(self, now_s: float) -> list[Command]:
        return [*self._released(), *self._recording(now_s)]

    def _redone(self, now_s: float) -> list[Command]:
        if self._held is None:
            if self.num_kept == 0 or self.course.is_held:
                return []
            return [Cue(f"Episode {self.number - 1} is already saved: --hold_during_reset=true lets you discard it here")]
        number, self._held = self._held, None
        self.num_kept -= 1
        self._since_s = now_s
        return [Drop(number), Cue(f"Episode {number} is discarded and will be recorded again")]

    def _released(self) -> list[Command]:
        number, self._held = self._held, None
        return [] if number is None else [Keep(number)]

    def _ended(self, commands: list[Command]) -> list[Command]:
        self.phase = Phase.ENDED
        return [*commands, Cue("Stop recording")]
