"""What is kept of the control loop: the samples of an episode with its counts, and the last second for the screen.

Decides what the numbers of a report mean; knows no event loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.recorder.clock import Clock
from services.recorder.joints import ArmTrack, JointRecording
from services.recorder.links import ArmLink, Side, Step
from services.recorder.timing import NS_PER_S, LoopReport, Tick, TickCounts

_NUM_UNSAMPLED = 2
"""Of n ticks, n - 1 periods lie between samples, and the last tick may have none yet."""


class EpisodeTracks:
    """What is kept while an episode is recorded.

    Args:
        sides: whose samples.
        rate_hz: of the ticks.
    """

    def __init__(self, sides: Sequence[Side], *, rate_hz: float) -> None:
        self.ticks = TickCounts(period_ns=round(NS_PER_S / rate_hz))
        self._rate_hz = rate_hz
        self._num_clipped = 0
        self._links = [link for side in sides for link in (side.follower, side.leader)]
        self._num_errors_before = [link.num_errors for link in self._links]
        self._tracks = {side.follower.name: ArmTrack(side.follower.arm.plan.joint_names) for side in sides}
        self._tracks |= {side.leader.name: ArmTrack(side.follower.arm.plan.joint_names) for side in sides}

    def add(self, side: Side, step: Step, *, clock: Clock) -> None:
        """Keep what one side did in one tick."""
        self._num_clipped += step.is_clipped
        if step.measured is not None:
            self._tracks[side.follower.name].add(clock.at_us(step.measured.time_s), step.measured.values)
        if step.sent is not None:
            self._tracks[side.leader.name].add(clock.at_us(step.sent.time_s), step.sent.values)

    @property
    def _span_us(self) -> int:
        """How long the episode has lasted: an arm that was silent at its end has not answered until then."""
        tracks = [track for track in self._tracks.values() if track.num_samples]
        sampled_us = max((track.last_us for track in tracks), default=0) - min((track.first_us for track in tracks), default=0)
        num_periods = self.ticks.num_ticks + self.ticks.num_missed - _NUM_UNSAMPLED
        return max(sampled_us, round(num_periods * 1e6 / self._rate_hz))

    def recording(self) -> JointRecording:
        """Return what was kept, without copying it."""
        tracks, span_us = self._tracks, self._span_us
        report = LoopReport(
            wanted_rate_hz=self._rate_hz,
            measured_rate_hz=min(track.rate_hz(span_us=span_us) for track in tracks.values()),
            num_ticks=self.ticks.num_ticks,
            num_missed=self.ticks.num_missed,
            num_late_2_periods=self.ticks.num_late_2_periods,
            lateness=self.ticks.lateness,
            longest_gap_ms=max(track.longest_gap_us for track in tracks.values()) / 1000,
            num_clipped=self._num_clipped,
            num_samples_by_arm={name: track.num_samples for name, track in tracks.items()},
            bus_errors_by_arm={
                link.name: link.num_errors - before for link, before in zip(self._links, self._num_errors_before, strict=True)
            },
        )
        return JointRecording(arms={name: track.recording() for name, track in tracks.items()}, report=report)


class LastSecond:
    """The last whole second: samples of the slowest arm, and the share of late ticks.

    Args:
        links: the arms.
        period_ns: between two ticks.
    """

    def __init__(self, links: Sequence[ArmLink], *, period_ns: int) -> None:
        self.rate_hz = 0.0
        self.late_share = 0.0
        self._links = links
        self._period_ns = period_ns
        self._begun_ns = 0
        self._start_again(0)

    def add(self, tick: Tick) -> None:
        """Count a tick."""
        elapsed_ns = tick.begun_ns - self._begun_ns
        if elapsed_ns >= NS_PER_S:
            num_samples = min(link.num_samples - before for link, before in zip(self._links, self._num_before, strict=True))
            if self._begun_ns:
                self.rate_hz = num_samples * NS_PER_S / elapsed_ns
                self.late_share = self._num_late / max(1, self._num_ticks)
            self._start_again(tick.begun_ns)
        self._num_ticks += 1 + tick.num_missed
        self._num_late += (tick.late_ns > self._period_ns) + tick.num_missed

    def _start_again(self, now_ns: int) -> None:
        self._begun_ns = now_ns
        self._num_ticks = self._num_late = 0
        self._num_before = [link.num_samples for link in self._links]
