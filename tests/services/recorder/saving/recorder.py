"""A recorder in a process of its own that saves one episode, is recording another one, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from services.recorder.saver import running_saver
from services.recorder.saving.episode import FinishedEpisode
from shared.events import EpisodeReady
from tests.services.recorder.saving.labs import arms


async def main(folder: str, config: str, source: str) -> None:
    """Save ``e1``, leave ``e2`` unfinished, print the saver's process id."""
    async with running_saver(Path(folder), config_path=Path(config), source=source, on_progress=lambda news: None) as saver:
        recording = Path(folder) / "recording"
        for name in ("e1", "e2"):
            (recording / name / "images" / "cam_env").mkdir(parents=True)
            (recording / name / "images" / "cam_env" / "1764564821000000.jpg").write_bytes(b"image")
        event = EpisodeReady(episode_id="e1", source=source)
        await saver.save(FinishedEpisode(event=event, folder=recording / "e1", arms=arms(), metadata={}, num_frames=1))
        sys.stdout.write(f"{saver.pid}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
