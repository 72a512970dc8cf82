"""A real converter tells how far it is, and the monitor shows it."""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from services.converter.__main__ import Options, convert
from shared.entry import load
from shared.progress import Progress, progress_subject
from tests.cli.labs import opened_lab, ready
from tests.services.converter.episodes import write_episode


async def test_converter_tells_the_frames_of_an_episode_until_it_is_done(tmp_path: Path) -> None:
    write_episode(tmp_path / "store" / "raw_datas" / "lab", "ep_1", seconds=1.0)
    async with opened_lab(tmp_path) as lab, contextlib.AsyncExitStack() as stack:
        told: asyncio.Queue[Progress] = asyncio.Queue()
        subscribed = await lab.bus.connection.subscribe(
            progress_subject("lab", "ep_1"), lambda incoming: told.put_nowait(msgspec.json.decode(incoming.body, type=Progress))
        )
        stack.push_async_callback(subscribed.end, drain=False)
        stopping = asyncio.Event()
        converting = asyncio.create_task(convert(load(lab.config, {}), Options(), stopping=stopping, stack=stack))
        await lab.publish(ready("ep_1"))
        async with asyncio.timeout(60):
            heard = [await told.get()]
            while heard[-1].stage != "done":
                heard.append(await told.get())
        stopping.set()
        counts = await converting

    assert (heard[0].stage, heard[0].worker, heard[0].source) == ("fetching", "converter", "lab")
    # Every row shows one frame of each of the two cameras.
    assert (heard[-1].frames_done % 2, 40 <= heard[-1].frames_done <= 50) == (0, True)
    assert counts.done == 1
