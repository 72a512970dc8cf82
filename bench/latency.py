"""(c) How long after publish() a conversion begins: one small episode at a time through the real embedded stack.

The converter's process measures inside the child, at its first line of work, how long ago the server had stored the event
(log event ``conversion.started``, key ``delay_s``). The time from the call of publish() to the server's storing is added from
the publisher's side: an upper bound, the whole round trip to the acknowledgement.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from bench.raw import make_episode, make_frames, strategy_document
from cli.embedding import Wish
from cli.stack import Stack
from cli.state import StateFolder
from cli.witness import Witness
from shared import logs
from shared.bus import Bus
from shared.config import LoggingConfig
from shared.errors import Rejected
from shared.events import EpisodeFailed, EpisodeReady
from shared.store_uri import parse_uri

NUM_EPISODES = 200
SOURCE = "bench"
_NUM_ROWS = 5


async def measured(folder: Path) -> list[float]:
    """Return the latency of every episode, in milliseconds."""
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(strategy_document(preset="ultrafast")))
    config = folder / "storage.yaml"
    config.write_bytes(msgspec.yaml.encode({"sources": [SOURCE], "conversion": {"config_template": str(folder / "strategy.yaml")}}))
    state = StateFolder(folder / "state")
    async with Stack(state, Wish(config=config), os.environ) as stack:
        raw = Path(parse_uri(stack.endpoints().raw[SOURCE]).root)
        episode = make_episode(raw, "episode_0000", make_frames(folder / "frames"), num_rows=_NUM_ROWS)
        async with await Bus.connect(stack.loaded.storage.nats, name="bench") as bus, Witness(bus) as witness:
            names = [_linked(raw, episode, index) for index in range(NUM_EPISODES + 1)]
            published_ms = [await _passed(bus, witness, name) for name in names]
    started = [
        msgspec.json.decode(line) for line in (state.logs / "converter-1.log").read_text().splitlines() if "conversion.started" in line
    ]
    delay_ms = {line["episode_id"]: 1000 * line["delay_s"] for line in started}
    return [published + delay_ms[name] for name, published in zip(names, published_ms, strict=True)][1:]


def _linked(raw: Path, episode: Path, index: int) -> str:
    """Let the same raw episode appear under another name, and return it."""
    name = f"episode_{index:04d}"
    if index:
        shutil.copytree(episode, raw / name, copy_function=os.link)  # a service follows no symbolic links
    return name


async def _passed(bus: Bus, witness: Witness, name: str) -> float:
    """Publish one episode, wait until it is uploaded, and return the milliseconds that publish() took."""
    event = EpisodeReady(episode_id=name, source=SOURCE)
    begin_s = time.perf_counter()
    await bus.publish(event, message_id=f"ready:{name}")
    published_ms = 1000 * (time.perf_counter() - begin_s)
    outcome = (await witness.outcome(name)).event
    if isinstance(outcome, EpisodeFailed):
        raise Rejected(outcome.error)
    return published_ms


def main() -> None:
    """Print p50 and p99 over the episodes."""
    logging = logs.Logging.configure(LoggingConfig(level="WARNING"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            latencies_ms = asyncio.run(measured(Path(folder)))
    finally:
        logging.close()
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    print(
        f"latency: publish to conversion start p50 {p50:.1f} ms, p99 {p99:.1f} ms (wanted p99 below 50; "
        f"{len(latencies_ms)} episodes one at a time, max {max(latencies_ms):.1f} ms)",
        flush=True,
    )


if __name__ == "__main__":
    main()
