"""(d) Alignment of a 20,000-row episode: all three strategies, from parquet files to rows, in seconds of this machine."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from bench.raw import CAMERAS, START_US, make_joints, strategy_document
from services.converter.aligned import align
from services.converter.assignment import Assignment, RawEpisode
from shared.config import decode_strategy

NUM_ROWS = 20_000
REPEATS = 5


def make_frame_names(folder: Path, *, num_rows: int) -> None:
    """Lay out empty frame files: alignment looks at names only."""
    for number, (camera, rate_hz) in enumerate(CAMERAS.items()):
        (folder / camera).mkdir(parents=True)
        for time_us in START_US + 10_000 + 3000 * number + (np.arange(num_rows * rate_hz // 25) * 1e6 / rate_hz).astype(int):
            (folder / camera / f"{time_us}.jpg").touch()


def main() -> None:
    """Print the best of several runs for each strategy, reading of the joints included."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "episode_0001"
        make_joints(folder / "joints", seconds=NUM_ROWS / 25 + 0.1)
        make_frame_names(folder / "images", num_rows=NUM_ROWS)
        raw = RawEpisode(episode_id="episode_0001", joints=folder / "joints", images=folder / "images")
        for strategy in ("nearest", "chunking", "window"):
            config = decode_strategy(strategy_document(strategy=strategy), place="bench")
            assignment = Assignment(source="local", episode_id="episode_0001", raw=raw, config=config, folder=Path(root) / "part")
            seconds, num_rows = [], 0
            for _ in range(REPEATS):
                begin = time.perf_counter()
                num_rows = len(align(assignment).rows.times_us)
                seconds.append(time.perf_counter() - begin)
            print(f"alignment {strategy}: {num_rows} rows in {min(seconds):.2f} s, best of {REPEATS} (wanted below 0.5)", flush=True)


if __name__ == "__main__":
    main()
