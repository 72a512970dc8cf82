"""Whether a camera keeps its pace: its rate now, and when it has been silent for too long. Pure: told the time, never asks."""

from __future__ import annotations

from collections import deque

from services.recorder.cameras.reports import CameraStatus

_WINDOW_S = 2.0
_SILENCE_S = 1.0
_SILENCE_PERIODS = 5


def silence_limit_s(period_s: float) -> float:
    """Return after how many seconds without a frame a camera counts as stopped."""
    return max(_SILENCE_S, _SILENCE_PERIODS * period_s)


class Pace:
    """The times at which one camera's frames arrived.

    Args:
        period_s: the time from one frame to the next that was asked for.
    """

    def __init__(self, period_s: float) -> None:
        self._limit_s = silence_limit_s(period_s)
        self._window_s = max(_WINDOW_S, 10 * period_s)
        self._arrivals_s: deque[float] = deque()

    def add(self, now_s: float) -> None:
        """Note a frame that arrived now."""
        self._arrivals_s.append(now_s)
        while self._arrivals_s[0] < now_s - self._window_s:
            self._arrivals_s.popleft()

    def silence_s(self, now_s: float) -> float:
        """Return for how long no frame has come; 0 before the first one, when nobody can be late."""
        return now_s - self._arrivals_s[-1] if self._arrivals_s else 0.0

    def is_silent(self, now_s: float) -> bool:
        """Return whether the camera counts as stopped."""
        return self.silence_s(now_s) > self._limit_s

    def status(self, now_s: float) -> CameraStatus:
        """Return the rate over the last seconds and whether frames come."""
        recent = [arrival_s for arrival_s in self._arrivals_s if arrival_s >= now_s - self._window_s]
        span_s = recent[-1] - recent[0] if recent else 0.0
        rate = (len(recent) - 1) / span_s if span_s > 0 else 0.0
        return CameraStatus(fps=round(rate, 2), is_delivering=bool(recent) and not self.is_silent(now_s))
