"""How far the work is, on a real bus."""

import asyncio

import msgspec
import pytest

from shared.bus import Bus
from shared.errors import BadRaw
from shared.progress import Progress, ProgressBoard, ProgressReporter, progress_subject
from tests.cli.labs import ready


class Told:
    """Everything that is told about one source."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus, self._source = bus, source
        self.messages: asyncio.Queue[Progress] = asyncio.Queue()

    async def __aenter__(self) -> "Told":
        self._subscribed = await self._bus.connection.subscribe(
            progress_subject(self._source, "*"),
            lambda incoming: self.messages.put_nowait(msgspec.json.decode(incoming.body, type=Progress)),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscribed.end(drain=False)

    async def next(self) -> Progress:
        async with asyncio.timeout(10):
            return await self.messages.get()


async def test_work_is_told_at_once_then_every_interval_and_at_its_end(bus: Bus, source: str) -> None:
    reporter = ProgressReporter(bus, worker="converter", interval_s=0.02)
    async with Told(bus, source) as told:
        async with reporter.reporting(ready("a.b", source, strategy="window"), "fetching") as report:
            first = await told.next()
            report.converting(lambda: 50)
            report.add(20)
            report.add(3)
            later = [await told.next()]
            while not later[-1].frames_total:
                later.append(await told.next())
        last = later[-1]
        while last.stage != "done":
            last = await told.next()

    assert (first.stage, first.episode_id, first.source, first.strategy, first.frames_done) == ("fetching", "a.b", source, "window", 0)
    assert (later[-1].stage, later[-1].frames_done, later[-1].frames_total, later[-1].worker) == ("converting", 23, 50, "converter")
    assert last.started_at == first.started_at


async def fails(reporter: ProgressReporter, source: str) -> None:
    async with reporter.reporting(ready("a", source), "fetching"):
        await asyncio.sleep(0)  # the first word is out
        raise BadRaw("a", "is broken")


async def test_failing_work_is_told_as_done_too(bus: Bus, source: str) -> None:
    async with Told(bus, source) as told:
        with pytest.raises(BadRaw):
            await fails(ProgressReporter(bus, worker="converter"), source)

        assert [(await told.next()).stage for _ in range(2)] == ["fetching", "done"]


async def test_work_goes_on_without_a_bus() -> None:
    async with ProgressReporter(None, worker="converter").reporting(ready("a"), "fetching") as report:
        report.add(3)

    assert (report.frames_done, report.stage) == (3, "done")


async def test_work_goes_on_while_the_bus_is_closed(bus: Bus) -> None:
    await bus.close()

    async with ProgressReporter(bus, worker="converter").reporting(ready("a"), "fetching") as report:
        report.add(1)

    assert report.stage == "done"


@pytest.mark.parametrize(("source", "episode_id"), [("lab", "a..b"), ("lab.", "a."), ("x.y", "ep_1")])
def test_every_allowed_name_gives_a_subject_without_empty_tokens(source: str, episode_id: str) -> None:
    tokens = progress_subject(source, episode_id).split(".")

    assert tokens[:2] == ["episodeflow", "progress"]
    assert len(tokens) == 4
    assert all(tokens)


def told(episode_id: str, stage: str = "converting", **fields: object) -> bytes:
    known = {"source": "lab", "strategy": None, "host": "h", "pid": 1, "worker": "converter", "started_at": 1.0, "updated_at": 2.0}
    return msgspec.json.encode({**known, "episode_id": episode_id, "stage": stage, **fields})


def test_board_keeps_the_latest_word_until_work_is_done() -> None:
    board = ProgressBoard(silent_s=10)
    for body in (told("a"), told("b", started_at=0.5), told("a", frames_done=7)):
        board.take(body, now_s=100.0)

    assert [(progress.episode_id, progress.frames_done) for progress in board.in_flight(now_s=101.0)] == [("b", 0), ("a", 7)]
    board.take(told("b", "done"), now_s=102.0)
    assert [progress.episode_id for progress in board.in_flight(now_s=102.0)] == ["a"]


def test_board_forgets_a_worker_that_has_fallen_silent() -> None:
    board = ProgressBoard(silent_s=10)
    board.take(told("a"), now_s=100.0)

    assert len(board.in_flight(now_s=109.9)) == 1
    assert board.in_flight(now_s=110.0) == []


def test_board_passes_over_what_does_not_decode() -> None:
    board = ProgressBoard()
    for body in (b"", b"{}", b"\xff", told("a", "sleeping"), b"[" * 10_000):
        board.take(body, now_s=0.0)

    assert board.in_flight(now_s=0.0) == []
