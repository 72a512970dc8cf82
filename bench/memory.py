"""(b) Peak memory of converting 1,000 and 10,000 rows: the largest process of a whole `convert` command."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import psutil

from bench.raw import make_episode, make_frames, strategy_document

LENGTHS = (1000, 10_000)
SAMPLE_S = 0.02


def peak_bytes(raw: Path, work: Path, name: str) -> int:
    """Run the command and return the largest peak of resident memory among its processes.

    The kernel's own high-water mark (``VmHWM``) of every process is read until it ends, so that no peak is missed
    between two looks.
    """
    strategy = work / "strategy.yaml"
    strategy.write_bytes(msgspec.yaml.encode(strategy_document(strategy="chunking")))
    command = [Path(sys.executable).with_name("episodeflow"), "convert", "-c", strategy, "--input", raw, "--output", work / f"out-{name}"]
    peak = 0
    with subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        parent = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, *(_high_water_bytes(each.pid) for each in _family(parent)), 0)
            try:
                process.wait(SAMPLE_S)
            except subprocess.TimeoutExpired:
                continue
    if process.returncode:
        raise RuntimeError(f"convert ended with exit status {process.returncode}")
    return peak


def _family(parent: psutil.Process) -> list[psutil.Process]:
    try:
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _high_water_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def main() -> None:
    """Print both peaks and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        frames = make_frames(work / "frames")
        peaks = {}
        for num_rows in LENGTHS:
            make_episode(work / f"raw-{num_rows}", "episode_0001", frames, num_rows=num_rows)
            peaks[num_rows] = peak_bytes(work / f"raw-{num_rows}", work, str(num_rows))
        short, long = (peaks[num_rows] for num_rows in LENGTHS)
        print(
            f"memory: peak {short / 1e6:.0f} MB for {LENGTHS[0]} rows, {long / 1e6:.0f} MB for {LENGTHS[1]} rows, "
            f"ratio {long / short:.2f} (wanted at most 1.10, and below 400 MB)",
            flush=True,
        )


if __name__ == "__main__":
    main()
