"""Rows against brute-force oracles, and the property that rows do not depend on how streams arrive."""

from __future__ import annotations

import itertools
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.converter.alignment import AlignmentPlan, ArmAligner, Rows, Taken, combined, row_times, shown_frames
from shared.errors import BadRaw

PLAN = AlignmentPlan(
    strategy="nearest",
    timeline="base",
    fps=25,
    arms=("left", "right"),
    action_arms=("left", "right"),
    cameras=("front", "side"),
    base_camera="front",
    tolerance_us=20_000,
    image_tolerance_us=40_000,
    window_us=10_000,
    chunk_size=5,
    joints_fps=250,
)


class Streams(msgspec.Struct):
    cameras: dict[str, np.ndarray]
    arms: dict[str, tuple[np.ndarray, np.ndarray]]


def jittered(generator: np.random.Generator, *, rate_hz: float, start_us: int, span_us: int, jitter_us: int, lost: float) -> np.ndarray:
    times = start_us + np.arange(0, span_us, 1e6 / rate_hz).astype(np.int64)
    times = np.unique(times + generator.integers(-jitter_us, jitter_us + 1, len(times)))
    kept = generator.random(len(times)) >= lost
    kept[0] = True
    return times[kept]


def random_streams(seed: int, *, span_us: int = 700_000, lost: float = 0.1) -> Streams:
    generator = np.random.default_rng(seed)

    def start() -> int:
        return 1_000_000 + int(generator.integers(0, 60_000))

    arms = {}
    for arm in PLAN.arms:
        times = jittered(generator, rate_hz=250, start_us=start(), span_us=span_us, jitter_us=1500, lost=lost)
        arms[arm] = (times, generator.normal(size=(len(times), 3)))
    cameras = {
        "front": jittered(generator, rate_hz=25, start_us=start(), span_us=span_us, jitter_us=8000, lost=lost),
        "side": jittered(generator, rate_hz=30, start_us=start(), span_us=span_us, jitter_us=8000, lost=lost),
    }
    return Streams(cameras, arms)


def timeline(plan: AlignmentPlan, streams: Streams) -> np.ndarray:
    every = [*streams.cameras.values(), *(times for times, _ in streams.arms.values())]
    start_us, end_us = max(int(times[0]) for times in every), min(int(times[-1]) for times in every)
    return row_times(plan, streams.cameras["front"], start_us=start_us, end_us=end_us)


def taken_at_once(plan: AlignmentPlan, arm: str, streams: Streams, times_us: np.ndarray) -> Taken:
    aligner = ArmAligner(plan, arm)
    aligner.ask(times_us)
    aligner.push(*streams.arms[arm])
    aligner.close()
    taken = aligner.take()
    assert taken is not None
    return taken


def aligned(plan: AlignmentPlan, streams: Streams) -> Rows | None:
    times_us = timeline(plan, streams)
    if not len(times_us):
        return None
    shown = {camera: shown_frames(plan, frames, times_us) for camera, frames in streams.cameras.items()}
    return combined(plan, times_us, shown, {arm: taken_at_once(plan, arm, streams, times_us) for arm in streams.arms})


def oracle_nearest(times: np.ndarray, target: int) -> int:
    return min(range(len(times)), key=lambda index: (abs(int(times[index]) - target), index))


def oracle_tick(index: int, rate_hz: int) -> int:
    return int(np.floor(index * 1_000_000 / rate_hz + 0.5))


def oracle_timeline(plan: AlignmentPlan, streams: Streams) -> list[int]:
    every = [*streams.cameras.values(), *(times for times, _ in streams.arms.values())]
    start, end = max(int(times[0]) for times in every), min(int(times[-1]) for times in every)
    base = [int(time) for time in streams.cameras["front"]]
    if plan.timeline == "uniform":
        base = list(itertools.takewhile(lambda time: time <= end, (base[0] + oracle_tick(i, plan.fps) for i in itertools.count())))
    return [time for time in base if start <= time <= end]


@pytest.mark.parametrize("kind", ["base", "uniform"])
def test_no_more_rows_are_made_than_wanted_and_they_are_the_first(kind: Literal["base", "uniform"]) -> None:
    plan = msgspec.structs.replace(PLAN, timeline=kind)
    every = timeline(plan, random_streams(1))

    assert timeline(msgspec.structs.replace(plan, max_rows=5), random_streams(1)).tolist() == every[:5].tolist()
    assert timeline(msgspec.structs.replace(plan, max_rows=5000), random_streams(1)).tolist() == every.tolist()


def oracle_arm(plan: AlignmentPlan, times: np.ndarray, values: np.ndarray, time: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return state, action steps and whether everything was within tolerance, for one row, by plain loops."""
    near = oracle_nearest(times, time)
    within = abs(int(times[near]) - time) <= plan.tolerance_us
    state = values[near]
    if plan.strategy == "window":
        inside = [values[i] for i in range(len(times)) if abs(int(times[i]) - time) <= plan.window_us]
        if inside:
            state = np.mean(inside, axis=0) if plan.aggregation == "mean" else np.median(inside, axis=0)
        return state, state[None], within or bool(inside)
    if plan.strategy == "nearest":
        return state, state[None], within
    steps: list[np.ndarray] = []
    for step in range(plan.chunk_size):
        target = time + oracle_tick(step, plan.joints_fps)
        if target > times[-1]:
            padding = {"repeat": steps[-1], "edge": values[-1], "constant": np.full_like(values[0], plan.padding_value)}
            steps += [padding[plan.padding_mode]] * (plan.chunk_size - step)
            break
        near = oracle_nearest(times, target)
        within = within and abs(int(times[near]) - target) <= plan.tolerance_us
        steps.append(values[near])
    return state, np.array(steps), within


def assert_equals_oracle(plan: AlignmentPlan, streams: Streams) -> int:
    expected = []
    for time in oracle_timeline(plan, streams):
        frames = {camera: oracle_nearest(times, time) for camera, times in streams.cameras.items()}
        within = all(abs(int(streams.cameras[camera][index]) - time) <= plan.image_tolerance_us for camera, index in frames.items())
        taken = {arm: oracle_arm(plan, times, values, time) for arm, (times, values) in streams.arms.items()}
        if within and all(of_arm[2] for of_arm in taken.values()):
            expected.append((time, frames, taken))
    rows = aligned(plan, streams)

    num_rows = 0 if rows is None else len(rows.times_us)
    assert num_rows == len(expected)
    if rows is None:
        return 0
    assert rows.num_dropped == len(oracle_timeline(plan, streams)) - num_rows
    for row, (time, frames, taken) in enumerate(expected):
        assert rows.times_us[row] == time
        assert {camera: indices[row] for camera, indices in rows.frame_indices.items()} == frames
        for arm, (state, steps, _) in taken.items():
            np.testing.assert_array_equal(rows.states[arm][row], state.astype(np.float32))
            if plan.strategy == "chunking":
                np.testing.assert_array_equal(rows.chunks[arm][row], steps.astype(np.float32))
    return num_rows


PLANS = [
    PLAN,
    msgspec.structs.replace(PLAN, timeline="uniform"),
    msgspec.structs.replace(PLAN, timeline="uniform", fps=30),
    msgspec.structs.replace(PLAN, tolerance_us=1000, image_tolerance_us=9000),
    msgspec.structs.replace(PLAN, strategy="window"),
    msgspec.structs.replace(PLAN, strategy="window", aggregation="median"),
    msgspec.structs.replace(PLAN, strategy="window", window_us=500, tolerance_us=1200),
    *(msgspec.structs.replace(PLAN, strategy="chunking", padding_mode=mode, padding_value=7.5) for mode in ("repeat", "edge", "constant")),
    msgspec.structs.replace(PLAN, strategy="chunking", chunk_size=10, joints_fps=30, tolerance_us=3000),
]


@pytest.mark.parametrize(
    "plan", PLANS, ids=lambda plan: f"{plan.strategy}-{plan.timeline}{plan.fps}-{plan.padding_mode}-{plan.aggregation}"
)
@pytest.mark.parametrize("seed", range(4))
def test_rows_equal_a_brute_force_search(plan: AlignmentPlan, seed: int) -> None:
    num_rows = assert_equals_oracle(plan, random_streams(seed))

    assert num_rows > 0


@given(seed=st.integers(0, 10_000), plan=st.sampled_from(PLANS), span_us=st.integers(1, 200_000), lost=st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_short_and_sparse_episodes_equal_a_brute_force_search(seed: int, plan: AlignmentPlan, span_us: int, lost: float) -> None:
    assert_equals_oracle(plan, random_streams(seed, span_us=span_us, lost=lost))


@given(seed=st.integers(0, 10_000), plan=st.sampled_from(PLANS), on_gap=st.sampled_from(["drop", "hold"]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_rows_are_the_same_whatever_portions_samples_and_rows_come_in(
    seed: int, plan: AlignmentPlan, on_gap: str, data: st.DataObject
) -> None:
    plan = msgspec.structs.replace(plan, on_gap=on_gap, tolerance_us=3000)
    streams = random_streams(seed, lost=0.3)
    times_us = timeline(plan, streams)
    samples_us, values = streams.arms["left"]
    aligner, portions, num_asked, num_pushed = ArmAligner(plan, "left"), [], 0, 0
    while num_pushed < len(samples_us):
        asked, pushed = data.draw(st.integers(0, 4)), data.draw(st.integers(1, 90))
        aligner.ask(times_us[num_asked : num_asked + asked])
        aligner.push(samples_us[num_pushed : num_pushed + pushed], values[num_pushed : num_pushed + pushed])
        num_asked, num_pushed = num_asked + asked, num_pushed + pushed
        portions.append(aligner.take())
    aligner.ask(times_us[num_asked:])
    aligner.close()
    portions.append(aligner.take())

    found = [portion for portion in portions if portion is not None]
    expected = taken_at_once(plan, "left", streams, times_us)
    for field in Taken.__struct_fields__:
        if getattr(expected, field) is not None:
            np.testing.assert_array_equal(np.concatenate([getattr(portion, field) for portion in found]), getattr(expected, field))


def regular(*, front: list[int], left: list[int]) -> Streams:
    cameras = {"front": np.array(front), "side": np.arange(0, 1_000_001, 20_000)}
    times = np.array(left)
    steady = np.arange(0, 1_000_001, 4000)
    return Streams(cameras, {"left": (times, times[:, None] / 1.0), "right": (steady, steady[:, None] / 1.0)})


WITH_GAP = regular(front=list(range(0, 1_000_001, 40_000)), left=[*range(0, 400_001, 4000), *range(480_000, 1_000_001, 4000)])


def test_rows_in_a_gap_are_dropped_and_counted() -> None:
    rows = aligned(PLAN, WITH_GAP)

    assert rows is not None
    assert 440_000 not in rows.times_us
    assert rows.num_dropped == 1
    assert len(rows.times_us) == 25


def test_a_held_row_repeats_the_last_sample_before_it_and_is_counted() -> None:
    rows = aligned(msgspec.structs.replace(PLAN, on_gap="hold"), WITH_GAP)

    assert rows is not None
    row = int(np.searchsorted(rows.times_us, 440_000))
    assert rows.states["left"][row, 0] == 400_000
    assert rows.states["right"][row, 0] == 440_000
    assert rows.errors_us["left"][row] == 40_000
    assert rows.num_held == {"front": 0, "side": 0, "left": 1, "right": 0}
    assert rows.num_dropped == 0


def test_a_rejected_gap_names_stream_time_distance_and_remedy() -> None:
    with pytest.raises(BadRaw, match=r"left: at 440000 us the nearest sample is 40\.0 ms away, the tolerance is 20 ms; .*on_gap"):
        aligned(msgspec.structs.replace(PLAN, on_gap="reject"), WITH_GAP)


def test_a_tie_takes_the_earlier_sample() -> None:
    rows = aligned(PLAN, regular(front=[100_000], left=[0, 98_000, 102_000, 200_000]))

    assert rows is not None
    assert rows.states["left"].tolist() == [[98_000.0]]


def test_a_sample_exactly_at_the_tolerance_counts_and_one_microsecond_beyond_does_not() -> None:
    at_limit = aligned(PLAN, regular(front=[100_000], left=[0, 120_000]))
    beyond = aligned(PLAN, regular(front=[100_000], left=[0, 120_001]))

    assert at_limit is not None
    assert at_limit.states["left"].tolist() == [[120_000.0]]
    assert beyond is not None
    assert len(beyond.times_us) == 0


def test_streams_that_do_not_overlap_make_no_row() -> None:
    assert len(timeline(PLAN, regular(front=[100_000], left=[200_000, 204_000]))) == 0


def test_memory_of_an_aligner_does_not_grow_with_the_episode() -> None:
    aligner = ArmAligner(PLAN, "left")
    aligner.ask(np.arange(0, 100_000_000, 40_000))
    for start in range(0, 100_000_000, 4_000_000):
        times = np.arange(start, start + 4_000_000, 4000)
        aligner.push(times, np.zeros((len(times), 3)))
        aligner.take()

    assert len(aligner._buffer.times_us) < 100


def test_only_arms_that_give_the_action_are_chunked() -> None:
    plan = msgspec.structs.replace(PLAN, strategy="chunking", action_arms=("right",))
    rows = aligned(plan, random_streams(1))

    assert rows is not None
    assert list(rows.chunks) == ["right"]
    assert rows.chunks["right"].shape == (len(rows.times_us), 5, 3)
