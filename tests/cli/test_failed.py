"""`episodeflow failed` on a real stream."""

import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import click
import pytest

from tests.cli.labs import Lab, opened_lab, ready, uploaded


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(tmp_path) as opened:
        yield opened


async def listed(lab: Lab, *arguments: str) -> list[tuple[str, int]]:
    result = await lab.run("failed", "list", "--json", *arguments)
    return [(cause["error"], cause["count"]) for cause in json.loads(result.stdout)["causes"]]


async def test_list_groups_by_cause_with_count_sources_newest_and_example(lab: Lab) -> None:
    await lab.fail("ep_1", "joints/left.parquet: row 12 is -1", failed_at=1000.0)
    await lab.fail("ep_2", "joints/left.parquet: row 7 is -3", failed_at=2000.0, source="other")
    await lab.fail("ep_3", "https://s3 answers 503", reason="exhausted", error_type="StoreUnavailable")

    result = await lab.run("failed", "list", "--json")

    document = json.loads(result.stdout)
    cause = document["causes"][0]
    assert (document["failures"], document["recovered"], document["unreadable"]) == (3, 0, [])
    assert (cause["reason"], cause["error_type"], cause["error"]) == ("rejected", "BadRaw", "joints/left.parquet: row # is #")
    assert (cause["count"], cause["sources"], cause["newest_at"]) == (2, ["lab", "other"], 2000.0)
    assert (cause["example"]["episode_id"], cause["example"]["seq"]) == ("ep_2", 2)


@pytest.mark.parametrize("columns", ["80", "100"])
async def test_table_shows_all_of_it_in_the_width_of_the_terminal(lab: Lab, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    await lab.fail("episode_0001", "joints/left_slave.parquet: " + "a long sentence that says what is wrong " * 4, source="other")

    lines = (await lab.run("failed", "list")).stdout.splitlines()

    assert max(map(len, lines)) <= int(columns)
    shown = " ".join(lines)
    assert all(word in shown for word in ("rejected BadRaw", "other", "episode_0001", "message 1", "1 failed, 0 published again"))


async def test_filters_choose_by_source_reason_error_type_and_time(lab: Lab) -> None:
    await lab.fail("a", "one", failed_at=time.time() - 7200)
    await lab.fail("b", "two", source="other")
    await lab.fail("c", "three", reason="exhausted", error_type="DiskFull")

    assert await listed(lab, "--source", "other") == [("two", 1)]
    assert await listed(lab, "--reason", "exhausted") == [("three", 1)]
    assert await listed(lab, "--error-type", "DiskFull") == [("three", 1)]
    assert sorted(await listed(lab, "--since", "1h")) == [("three", 1), ("two", 1)]
    assert len(await listed(lab, "--since", "2026-01-01")) == 3


async def test_recovered_failures_are_hidden_unless_all_are_asked_for(lab: Lab) -> None:
    await lab.fail("a")
    await lab.publish(ready("a"))
    await lab.publish(uploaded("a"))

    assert await listed(lab) == []
    assert "0 failed, 0 published again without a result yet, 1 recovered" in (await lab.run("failed", "list")).stdout
    assert [count for _, count in await listed(lab, "--all")] == [1]


async def test_since_that_is_no_moment_is_refused(lab: Lab) -> None:
    with pytest.raises(Exception, match="expected a span such as 90m"):
        await lab.run("failed", "list", "--since", "yesterday")


async def test_show_tells_everything_and_how_to_publish_it_again(lab: Lab) -> None:
    await lab.fail("a", "images/front/1.jpg: is [no] JPEG", strategy="window", task="stack it")

    shown = (await lab.run("failed", "show", "a", "-s", "lab")).stdout

    assert "images/front/1.jpg: is [no] JPEG" in shown
    assert "nats stream get EPISODES 1 --json | jq -r .data | base64 -d | nats pub --jetstream --no-templates --force-stdin" in shown
    body = next(line for line in shown.splitlines() if line.startswith("{"))
    assert json.loads(body)["task"] == "stack it"
    assert "error" not in json.loads(body)


async def test_show_takes_the_number_of_a_message_also_of_an_earlier_failure(lab: Lab) -> None:
    await lab.fail("a", "first")
    await lab.fail("a", "second")

    documents = [json.loads((await lab.run("failed", "show", number, "--json")).stdout) for number in "12"]

    assert [(found["event"]["error"], found["status"]) for found in documents] == [("first", "superseded"), ("second", "open")]


async def test_show_of_an_episode_that_did_not_fail_says_so(lab: Lab) -> None:
    with pytest.raises(Exception, match="no failure of 'nothing' is on the stream"):
        await lab.run("failed", "show", "nothing")


async def test_republish_publishes_a_selection_once_and_reports_the_second_time(lab: Lab) -> None:
    await lab.fail("a")
    await lab.fail("b", source="other")

    first = await lab.run("failed", "republish", "--source", "lab")
    second = await lab.run("failed", "republish", "--source", "lab")

    assert (first.exit_code, "lab/a: published again as message 3" in first.stdout) == (0, True)
    assert "lab/a: was published again and has no result yet, left alone" in second.stdout
    assert await lab.subjects() == {"episode.failed.lab": 1, "episode.failed.other": 1, "episode.ready.lab": 1}


async def test_republish_again_publishes_once_more(lab: Lab) -> None:
    await lab.fail("a")
    for arguments in ((), ("--again",), ("--again",)):
        await lab.run("failed", "republish", "a", *arguments)

    assert (await lab.subjects())["episode.ready.lab"] == 3


async def test_dry_run_prints_what_it_would_publish_and_publishes_nothing(lab: Lab) -> None:
    await lab.fail("a", strategy="window")

    result = await lab.run("failed", "republish", "--all", "--dry-run")

    subject, _, body = result.stdout.splitlines()[0].partition(" ")
    assert (subject, json.loads(body)["strategy"]) == ("episode.ready.lab", "window")
    assert await lab.subjects() == {"episode.failed.lab": 1}


async def test_republish_of_everything_leaves_out_what_cannot_be_and_says_why(lab: Lab) -> None:
    await lab.fail("a")
    await lab.fail("b", source="gone")
    await lab.fail("unreadable")

    result = await lab.run("failed", "republish", "--all")

    assert result.exit_code == 1
    assert "1 of 3 failures published again" in result.stdout
    assert re.search(r"gone/b: not published: the source 'gone' is not configured", result.stderr)
    assert "lab/unreadable: not published: the event that failed could not be read" in result.stderr


async def test_republish_without_a_choice_is_refused(lab: Lab) -> None:
    await lab.fail("a")

    result = await lab.run("failed", "republish")

    assert (result.exit_code, "or --all for everything that failed" in click.unstyle(result.stderr)) == (2, True)


async def test_republish_of_an_episode_that_did_not_fail_ends_with_status_1(lab: Lab) -> None:
    result = await lab.run("failed", "republish", "nothing")

    assert (result.exit_code, "nothing: nothing to publish again" in result.stderr) == (1, True)
