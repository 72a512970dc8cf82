"""Episodes and news come out of the pipes as they went in, and a cut one not at all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from services.recorder.saving.channel import receive_news, receive_request, send_news, send_request
from services.recorder.saving.episode import ArmSamples, FinishedEpisode, SaveRequest
from services.recorder.saving.news import Announced, Counted
from shared.events import EpisodeReady
from tests.services.recorder.saving.labs import arms


class Sink:
    """Keeps what is written, in place of a pipe."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, body: bytes | memoryview) -> None:
        self.content += body

    async def drain(self) -> None:
        await asyncio.sleep(0)


def finished(samples: tuple[ArmSamples, ...]) -> FinishedEpisode:
    event = EpisodeReady(episode_id="e1", source="lab", config_overrides={"video.crf": 18}, timestamp=1.5)
    return FinishedEpisode(event=event, folder=Path("recording/e1"), arms=samples, metadata={"fps": 30}, num_frames=9)


async def sent(episode: FinishedEpisode) -> tuple[bytes, str]:
    sink, request = Sink(), SaveRequest.of(episode)
    await send_request(sink, request, episode.arms)  # type: ignore[arg-type]
    return bytes(sink.content), request.nonce


def reader_of(content: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return reader


@pytest.mark.parametrize("num_samples", [0, 1, 40_000])
async def test_an_episode_comes_out_as_it_went_in(num_samples: int) -> None:
    episode = finished(arms(num_samples=num_samples, num_joints=6))
    content, nonce = await sent(episode)
    received = await receive_request(reader_of(content))

    assert received is not None
    assert received[1] == nonce
    assert received[0].event == episode.event
    assert (received[0].folder, received[0].metadata, received[0].num_frames) == (episode.folder, {"fps": 30}, 9)
    for ours, theirs in zip(episode.arms, received[0].arms, strict=True):
        assert ours.arm == theirs.arm
        np.testing.assert_array_equal(ours.times_us, theirs.times_us)
        np.testing.assert_array_equal(ours.values, theirs.values)


async def test_samples_in_any_layout_of_memory_arrive_row_by_row() -> None:
    [arm, *_] = arms(num_samples=10, num_joints=3)
    turned = ArmSamples(arm="slave", times_us=arm.times_us[::-1], values=np.asfortranarray(arm.values))
    content, _ = await sent(finished((turned,)))
    received = await receive_request(reader_of(content))

    assert received is not None
    np.testing.assert_array_equal(received[0].arms[0].values, arm.values)
    np.testing.assert_array_equal(received[0].arms[0].times_us, arm.times_us[::-1])


@pytest.mark.parametrize("num_bytes", [0, 2, 100, -1])
async def test_an_episode_that_is_cut_off_is_none(num_bytes: int) -> None:
    content, _ = await sent(finished(arms()))

    assert await receive_request(reader_of(content[:num_bytes])) is None


async def test_news_arrive_one_by_one_until_the_pipe_ends() -> None:
    told = [Announced(episode_id="e1", seq=4, delay_s=0.1), Counted(num_waiting=1, num_held_back=0)]
    reading, writing = os.pipe()
    for news in told:
        send_news(writing, news)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        reader = reader_of(pipe.read())

    assert [await receive_news(reader), await receive_news(reader), await receive_news(reader)] == [*told, None]


@pytest.mark.parametrize(
    "arm",
    [
        ArmSamples(arm="slave", times_us=np.zeros(3, np.int64), values=np.zeros((2, 6))),
        ArmSamples(arm="slave", times_us=np.zeros(3, np.int64), values=np.zeros(3)),
        ArmSamples(arm="slave", times_us=np.zeros(3, np.int32), values=np.zeros((3, 6))),  # type: ignore[arg-type]
    ],
)
def test_samples_of_a_wrong_shape_are_a_mistake_of_the_program(arm: ArmSamples) -> None:
    with pytest.raises(ValueError, match="slave: expected"):
        SaveRequest.of(finished((arm,)))
