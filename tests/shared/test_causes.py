"""Which failures are open, and which share a cause."""

from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.causes import FailureLog, Selection, cause_text, causes, failure_of
from shared.events import EpisodeReady
from tests.cli.labs import converted, failed, ready, uploaded


def log_of(*told: EpisodeReady) -> FailureLog:
    log = FailureLog(strategy="nearest")
    for seq, event in enumerate(told, 1):
        log.take(events.subject(event), seq=seq, body=events.encode(event))
    return log


def statuses(*told: EpisodeReady) -> list[str]:
    return [failure.status for failure in log_of(*told).failures()]


def test_failure_is_open_until_somebody_does_something() -> None:
    assert statuses(ready("a"), failed("a"), ready("b"), uploaded("b")) == ["open"]


def test_failure_that_was_published_again_is_retried() -> None:
    assert statuses(failed("a"), ready("a")) == ["retried"]


def test_failure_is_recovered_by_a_later_upload_of_the_configured_strategy() -> None:
    assert statuses(failed("a", strategy=None), ready("a"), uploaded("a", strategy="nearest")) == ["recovered"]


def test_success_before_the_failure_does_not_recover_it() -> None:
    assert statuses(converted("a"), uploaded("a"), failed("a")) == ["open"]


def test_success_of_another_source_or_strategy_does_not_recover_it() -> None:
    assert statuses(failed("a"), uploaded("a", source="other"), uploaded("a", strategy="window")) == ["open"]


def test_conversion_recovers_what_a_converter_failed_at_but_not_what_an_uploader_did() -> None:
    assert statuses(failed("a"), converted("a")) == ["recovered"]
    assert statuses(failed("a", stage="uploader", strategy="nearest"), ready("a"), converted("a")) == ["retried"]
    assert statuses(failed("a", stage="uploader", strategy="nearest"), ready("a"), converted("a"), uploaded("a")) == ["recovered"]


def test_failing_again_takes_the_place_of_the_earlier_failure_and_counts() -> None:
    found = log_of(failed("a", "first"), ready("a"), failed("a", "second")).failures()

    assert [(failure.error, failure.times, failure.status, failure.seq) for failure in found] == [("second", 2, "open", 3)]


def test_failing_after_a_recovery_counts_anew() -> None:
    found = log_of(failed("a"), uploaded("a"), failed("a")).failures()

    assert [(failure.times, failure.status) for failure in found] == [(1, "open")]


def test_failures_of_unreadable_events_stay_apart() -> None:
    assert len(log_of(failed("unreadable", source="unknown"), failed("unreadable", source="unknown")).failures()) == 2


def test_failed_event_that_does_not_decode_is_named_by_its_number() -> None:
    log = FailureLog(strategy="nearest")

    log.take("episode.failed.lab", seq=7, body=b"{")

    assert (log.unreadable, log.failures()) == ([7], [])


def test_hostile_bodies_change_nothing() -> None:
    log = log_of(failed("a"))

    for content in (b"", b"[]", b"\xff", b'{"source": 1}', b"[" * 100_000):
        log.take("episode.uploaded.lab", seq=9, body=content)

    assert [failure.status for failure in log.failures()] == ["open"]


def test_failures_with_different_numbers_and_names_share_a_cause() -> None:
    told = [
        failed("ep_1", "joints/left.parquet: row 12 of ep_1 is 3.5 (digest 0123abcd99)", failed_at=10.0),
        failed("ep_2", "joints/left.parquet: row 7 of ep_2 is -1e-9 (digest 99abcdef00)", failed_at=20.0, source="other"),
        failed("ep_3", "joints/right.parquet: row 7 of ep_3 is 1", failed_at=30.0),
    ]

    first, second = causes(log_of(*told).failures())

    assert (first.error, first.count, first.sources, first.newest_at, first.example.episode_id) == (
        "joints/left.parquet: row # of {episode} is # (digest #)",
        2,
        ("lab", "other"),
        20.0,
        "ep_2",
    )
    assert second.count == 1


def test_words_that_are_made_of_hexadecimal_letters_stay() -> None:
    assert cause_text(failure_of(failed("a1", "the facade decade added 1234"), seq=1)) == "the facade decade added #"


def test_selection_keeps_what_matches_in_every_respect() -> None:
    log = log_of(
        failed("a", failed_at=5.0), failed("b", source="other"), failed("c", reason="exhausted"), failed("d", error_type="Filtered")
    )

    def chosen(**fields: object) -> list[str]:
        return [failure.episode_id for failure in log.failures(Selection(**fields))]  # type: ignore[arg-type]

    assert chosen() == ["a", "b", "c", "d"]
    assert chosen(source="other") == ["b"]
    assert chosen(reason="exhausted") == ["c"]
    assert chosen(error_type="Filtered") == ["d"]
    assert chosen(episode_ids=("a", "d")) == ["a", "d"]
    assert chosen(since_s=6.0) == ["b", "c", "d"]
    assert chosen(source="other", reason="exhausted") == []


STEP = st.tuples(st.sampled_from(["ready", "converted", "uploaded", "failed"]), st.sampled_from("ab"))


@given(st.lists(STEP, max_size=30))
def test_status_is_what_the_events_after_the_last_failure_say(steps: list[tuple[str, str]]) -> None:
    makers = {"ready": ready, "converted": converted, "uploaded": uploaded, "failed": failed}

    found = {failure.episode_id: failure for failure in log_of(*(makers[stage](name) for stage, name in steps)).failures()}

    for name in "ab":
        mine = [stage for stage, of in steps if of == name]
        if "failed" not in mine:
            assert name not in found
            continue
        after = mine[len(mine) - mine[::-1].index("failed") :]
        expected = "recovered" if {"converted", "uploaded"} & set(after) else "retried" if "ready" in after else "open"
        assert found[name].status == expected


def test_numbers_inside_names_stay() -> None:
    text = cause_text(failure_of(failed("a1", "https://s3.bj.example.com: joint_3 is 7 at 1.5e-3 s"), seq=1))

    assert text == "https://s3.bj.example.com: joint_3 is # at # s"
