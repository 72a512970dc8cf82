"""The saver's process over real pipes, in this process: it ends with its input, and saves first what it has in hand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cli.servers import NatsServer
from services.recorder.saving.channel import receive_news, send_request
from services.recorder.saving.episode import SaveRequest
from services.recorder.saving.news import Counted, Lost, Ready, Removed, Saved
from services.recorder.saving.process import serve
from shared.config import RedisConfig
from shared.entry import load
from shared.errors import BadEvent
from tests.services.recorder.saving.labs import RecorderLab


class Pipes:
    """Both pipes of a saver: what is written to one, and the news from the other."""

    def __init__(self) -> None:
        self.reading, self._asking = os.pipe()
        self._hearing, self.telling = os.pipe()

    def write(self, body: bytes | memoryview) -> None:
        os.write(self._asking, body)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def end(self) -> None:
        os.close(self._asking)

    async def news(self) -> list[object]:
        """Return everything that was told, after the saver has ended."""
        os.close(self.telling)
        with os.fdopen(self._hearing, "rb") as pipe:
            reader = asyncio.StreamReader()
            reader.feed_data(pipe.read())
            reader.feed_eof()
        found: list[object] = []
        while (news := await receive_news(reader)) is not None:
            found.append(news)
        return found


@pytest.fixture
async def lab(tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str) -> RecorderLab:
    made = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await made.provision()
    return made


async def served(lab: RecorderLab, pipes: Pipes, *, is_first: bool) -> None:
    pair = (pipes.reading, pipes.telling)
    await serve(load(lab.config_path, {}), lab.folder, source=lab.source, is_first=is_first, descriptors=pair)


async def test_what_was_asked_before_the_end_of_the_input_is_saved_in_order(lab: RecorderLab) -> None:
    pipes = Pipes()
    for name in ("e2", "e1"):
        finished = lab.record(name)
        await send_request(pipes, SaveRequest.of(finished), finished.arms)  # type: ignore[arg-type]
    pipes.write(b"\xff\xff")  # the beginning of a third one, whose sender was killed
    pipes.end()
    await served(lab, pipes, is_first=False)

    told = await pipes.news()
    assert [news.episode_id for news in told if isinstance(news, Saved)] == ["e2", "e1"]
    assert told[0] == Ready()
    # Counted before it is reported: at no moment does it wait nowhere.
    before_first = told[: next(index for index, news in enumerate(told) if isinstance(news, Saved))]
    assert Counted(num_waiting=1, num_held_back=0) in before_first


@pytest.mark.parametrize("is_first", [True, False])
async def test_only_the_first_saver_of_a_recorder_removes_what_is_being_recorded(lab: RecorderLab, is_first: bool) -> None:
    lab.record("e1")
    pipes = Pipes()
    pipes.end()
    await served(lab, pipes, is_first=is_first)

    told = await pipes.news()
    assert [news.episode_id for news in told if isinstance(news, Removed)] == (["e1"] if is_first else [])
    assert (lab.folder / "recording" / "e1").exists() != is_first


async def test_an_episode_without_its_folder_is_lost_with_a_sentence(lab: RecorderLab) -> None:
    finished = lab.record("e1")
    (lab.folder / "recording" / "e1").rename(lab.folder / "elsewhere")
    pipes = Pipes()
    await send_request(pipes, SaveRequest.of(finished), finished.arms)  # type: ignore[arg-type]
    pipes.end()
    await served(lab, pipes, is_first=False)

    [lost] = [news for news in await pipes.news() if isinstance(news, Lost)]
    assert "recording/e1: is not there" in lost.sentence


async def test_a_source_without_a_place_ends_it_before_anything_is_touched(lab: RecorderLab) -> None:
    lab.source = "unknown"
    pipes = Pipes()
    with pytest.raises(BadEvent, match="is not configured"):
        await served(lab, pipes, is_first=True)
    pipes.end()
    os.close(pipes.reading)

    assert await pipes.news() == []
    assert not lab.folder.exists()
