"""The whole stack over a folder store: every service as a process, nothing replaced."""

import asyncio
from pathlib import Path

from cli.witness import Witness
from shared.events import EpisodeFailed, EpisodeUploaded
from shared.lerobot.check import check_dataset
from tests.e2e.stacks import up, write_config
from tests.services.converter.episodes import write_episode


async def test_published_episodes_of_both_strategies_become_sound_datasets_and_are_counted(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", sources=["lab"])
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        raw = tmp_path / "state" / "store" / "raw_datas"
        for name in ("episode_0001", "episode_0002"):
            write_episode(raw, name)
        async with await stack.bus() as bus, Witness(bus) as witness, asyncio.timeout(40):
            one = await stack.run("publish", "-e", "episode_0001", "-s", "lab")
            two = await stack.run("publish", "-e", "episode_0002", "-s", "lab", "--strategy", "chunking", "--task", "Stack blocks.")
            first = (await witness.outcome("episode_0001")).event
            second = (await witness.outcome("episode_0002")).event
            stats = await stack.until_completed("lab", 2)
        converted = tmp_path / "state" / "store" / "converted_datas"

        assert one[0] == two[0] == 0, (one, two)
        assert isinstance(first, EpisodeUploaded), first
        assert isinstance(second, EpisodeUploaded), second
        assert sorted(path.name for path in converted.iterdir()) == ["episode_0001_nearest", "episode_0002_chunking"]
        assert check_dataset(converted / "episode_0001_nearest").problems == ()
        assert check_dataset(converted / "episode_0002_chunking").problems == ()
        assert "Stack blocks." in (converted / "episode_0002_chunking" / "meta" / "tasks.jsonl").read_text()
        assert (stats.completed, stats.failed) == (2, 0)


async def test_rejected_episode_fails_with_its_sentence_while_others_go_on_and_its_body_republished_after_repair_completes(
    tmp_path: Path,
) -> None:
    config = write_config(tmp_path / "lab", sources=["lab"])
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        raw = tmp_path / "state" / "store" / "raw_datas"
        write_episode(raw, "broken")
        write_episode(raw, "sound")
        arm = raw / "broken" / "joints" / "left_master.parquet"
        whole = arm.read_bytes()
        arm.write_bytes(whole[:100])
        async with await stack.bus() as bus, Witness(bus) as witness, asyncio.timeout(40):
            await stack.run("publish", "-e", "broken", "-s", "lab")
            await stack.run("publish", "-e", "sound", "-s", "lab")
            failed = await witness.outcome("broken")
            sound = (await witness.outcome("sound")).event
            arm.write_bytes(whole)
            # What `nats pub --jetstream episode.ready` does: the body as it is, on the bare subject, without an id.
            num_seen = len(witness.sightings)
            await bus.connection.ask("episode.ready", failed.body, timeout_s=5.0)
            repaired = (await witness.outcome("broken", after=num_seen)).event
            stats = await stack.until_completed("lab", 2)

        assert isinstance(failed.event, EpisodeFailed)
        assert failed.event.reason == "rejected"
        assert "joints/left_master.parquet" in failed.event.error
        assert "no whole parquet file" in failed.event.error
        assert isinstance(sound, EpisodeUploaded)
        assert isinstance(repaired, EpisodeUploaded)
        assert (stats.completed, stats.failed) == (2, 1)


async def test_second_up_continues_the_backlog_with_the_same_credentials(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", sources=["lab"])
    names = [f"episode_{index:04d}" for index in range(6)]
    raw = tmp_path / "state" / "store" / "raw_datas"
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        before = stack.endpoints()
        for name in names:
            write_episode(raw, name)
        async with await stack.bus() as bus, Witness(bus) as witness, asyncio.timeout(30):
            for name in names:
                await bus.connection.ask("episode.ready.lab", f'{{"episode_id": "{name}", "source": "lab"}}'.encode(), timeout_s=5.0)
            await witness.outcome(names[0])
        status = await stack.stop()
        done_before = {path.name for path in (tmp_path / "state" / "store" / "converted_datas").iterdir()}
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        after = stack.endpoints()
        await stack.until_completed("lab", len(names))
    # The stop waited for the uploader, which empties the spool last.
    datasets = sorted((tmp_path / "state" / "store" / "converted_datas").iterdir())

    assert status == 0
    assert len(done_before) < len(names)
    assert [path.name for path in datasets] == [f"{name}_nearest" for name in names]
    assert all(check_dataset(path, quick=True).problems == () for path in datasets)
    assert (after.nats.password, after.redis.password) == (before.nats.password, before.redis.password)
    assert not list((tmp_path / "state" / "spool").glob("lab/*"))
