"""The course of a session: every key and every end of time in every phase."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.session import Begin, Course, Cue, Drop, End, Keep, Key, Phase, Session


def session(**changes: Any) -> Session:
    course = {"num_there": 0, "num_wanted": 3, "episode_time_s": 10.0, "reset_time_s": 5.0, **changes}
    return Session(Course(**course), now_s=0.0)


def deeds(commands: list[Any]) -> list[Any]:
    return [command for command in commands if not isinstance(command, Cue)]


def cues(commands: list[Any]) -> list[str]:
    return [command.text for command in commands if isinstance(command, Cue)]


def test_a_session_without_keys_records_every_episode_with_a_reset_in_between() -> None:
    subject = session(num_wanted=2)

    assert subject.begin(now_s=0.0) == [Begin(1), Cue("Recording episode 1/2")]
    assert subject.advance(now_s=9.9) == []
    assert subject.advance(now_s=10.0) == [End(1), Keep(1), Cue("Reset the environment")]
    assert subject.advance(now_s=15.0) == [Begin(2), Cue("Recording episode 2/2")]
    assert subject.advance(now_s=25.0) == [End(2), Keep(2), Cue("Stop recording")]
    assert subject.phase is Phase.ENDED


def test_a_resumed_session_counts_on_to_the_total() -> None:
    subject = session(num_there=25, num_wanted=50)

    assert cues(subject.begin(now_s=0.0)) == ["Recording episode 26/50"]


def test_a_dataset_that_is_complete_records_nothing() -> None:
    subject = session(num_there=50, num_wanted=50)

    assert deeds(subject.begin(now_s=0.0)) == []
    assert subject.phase is Phase.ENDED


def test_next_ends_an_episode_early_and_then_the_reset() -> None:
    subject = session()
    subject.begin(now_s=0.0)

    assert deeds(subject.press(Key.NEXT, now_s=4.0)) == [End(1), Keep(1)]
    assert deeds(subject.press(Key.NEXT, now_s=5.0)) == [Begin(2)]


def test_a_key_that_was_pressed_twice_makes_no_empty_episode() -> None:
    subject = session()
    subject.begin(now_s=0.0)
    subject.press(Key.NEXT, now_s=4.0)
    subject.press(Key.NEXT, now_s=5.0)

    assert subject.press(Key.NEXT, now_s=5.1) == []
    assert subject.phase is Phase.RECORDING


def test_re_record_drops_the_episode_and_takes_its_number_again() -> None:
    subject = session()
    subject.begin(now_s=0.0)

    assert deeds(subject.press(Key.REDO, now_s=4.0)) == [End(1), Drop(1)]
    assert deeds(subject.advance(now_s=9.0)) == [Begin(1)]


def test_stop_keeps_the_episode_that_is_being_recorded() -> None:
    subject = session()
    subject.begin(now_s=0.0)

    assert deeds(subject.press(Key.STOP, now_s=4.0)) == [End(1), Keep(1)]
    assert subject.phase is Phase.ENDED


def test_an_interruption_drops_the_episode_that_is_being_recorded() -> None:
    subject = session()
    subject.begin(now_s=0.0)

    assert deeds(subject.press(Key.INTERRUPT, now_s=4.0)) == [End(1), Drop(1)]
    assert subject.phase is Phase.ENDED


def test_an_interruption_in_the_reset_phase_keeps_what_was_held_back() -> None:
    subject = session(is_held=True)
    subject.begin(now_s=0.0)
    subject.advance(now_s=10.0)

    assert deeds(subject.press(Key.INTERRUPT, now_s=11.0)) == [Keep(1)]


def test_re_record_in_the_reset_phase_says_that_the_episode_is_on_its_way() -> None:
    subject = session()
    subject.begin(now_s=0.0)
    subject.advance(now_s=10.0)

    assert cues(subject.press(Key.REDO, now_s=11.0)) == ["Episode 1 is already saved: --hold_during_reset=true lets you discard it here"]


def test_an_episode_that_is_held_back_can_be_dropped_in_its_reset_phase() -> None:
    subject = session(is_held=True)
    subject.begin(now_s=0.0)

    assert deeds(subject.advance(now_s=10.0)) == [End(1)]
    assert deeds(subject.press(Key.REDO, now_s=11.0)) == [Drop(1)]
    assert deeds(subject.advance(now_s=16.0)) == [Begin(1)]


def test_an_episode_that_is_held_back_is_kept_when_its_reset_phase_ends() -> None:
    subject = session(is_held=True)
    subject.begin(now_s=0.0)
    subject.advance(now_s=10.0)

    assert deeds(subject.advance(now_s=15.0)) == [Keep(1), Begin(2)]


def test_without_a_reset_time_the_next_episode_starts_at_once() -> None:
    subject = session(reset_time_s=0.0)
    subject.begin(now_s=0.0)

    assert deeds(subject.advance(now_s=10.0)) == [End(1), Keep(1), Begin(2)]


def test_a_session_by_hand_waits_to_be_asked() -> None:
    subject = session(is_by_hand=True, reset_time_s=math.inf)

    assert subject.begin(now_s=0.0) == []
    assert subject.advance(now_s=1e6) == []
    assert deeds(subject.press(Key.NEXT, now_s=1e6)) == [Begin(1)]


@pytest.mark.parametrize("is_held", [False, True])
def test_an_episode_that_cannot_be_used_is_recorded_again(*, is_held: bool) -> None:
    subject = session(num_wanted=1, is_held=is_held)
    subject.begin(now_s=0.0)
    subject.advance(now_s=10.0)

    assert cues(subject.unusable(now_s=10.0)) == ["Reset the environment"]
    assert deeds(subject.advance(now_s=15.0)) == [Begin(1)]


def test_without_a_reset_time_an_unusable_episode_is_begun_again_at_once() -> None:
    subject = session(reset_time_s=0.0)
    subject.begin(now_s=0.0)
    subject.advance(now_s=10.0)

    assert deeds(subject.unusable(now_s=10.0)) == [Begin(1)]


def test_after_a_stop_an_unusable_episode_is_not_recorded_again() -> None:
    subject = session()
    subject.begin(now_s=0.0)
    subject.press(Key.STOP, now_s=4.0)

    assert deeds(subject.unusable(now_s=4.0)) == []
    assert (subject.phase, subject.num_kept) == (Phase.ENDED, 0)


def test_an_episode_that_is_put_off_is_tried_again_not_before_the_pause() -> None:
    subject = session(reset_time_s=0.0)
    subject.begin(now_s=0.0)
    subject.postpone(now_s=1.0, pause_s=2.0)

    assert subject.advance(now_s=2.9) == []
    assert deeds(subject.advance(now_s=3.0)) == [Begin(1)]


def test_over_the_bus_an_episode_ends_however_soon() -> None:
    subject = session(is_by_hand=True, reset_time_s=math.inf)
    subject.press(Key.NEXT, now_s=1.0)

    assert deeds(subject.press(Key.NEXT, now_s=1.1)) == [End(1), Keep(1)]


@pytest.mark.parametrize("is_held", [False, True])
@given(presses=st.lists(st.tuples(st.sampled_from([None, *Key]), st.floats(0.0, 12.0)), max_size=40))
def test_every_episode_is_begun_ended_and_then_kept_or_dropped_once(*, is_held: bool, presses: list[tuple[Key | None, float]]) -> None:
    subject = session(is_held=is_held)
    now_s = 0.0
    commands = deeds(subject.begin(now_s=now_s))
    for key, later_s in presses:
        now_s += later_s
        commands += deeds(subject.advance(now_s=now_s) if key is None else subject.press(key, now_s=now_s))

    open_number, pending = None, None
    kept = []
    for command in commands:
        if isinstance(command, Begin):
            assert open_number is None
            assert pending is None
            assert command.number == len(kept) + 1
            open_number = command.number
        elif isinstance(command, End):
            assert command.number == open_number
            open_number, pending = None, command.number
        else:
            assert command.number == pending
            pending = None
            kept += [command.number] if isinstance(command, Keep) else []
    assert kept == list(range(1, len(kept) + 1))
    assert len(kept) <= 3
