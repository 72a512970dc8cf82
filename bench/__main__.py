"""``make bench``: every benchmark in turn, one line a figure."""

from __future__ import annotations

import sys

import bench.alignment
import bench.latency
import bench.memory
import bench.recording
import bench.speed

BENCHMARKS = {
    "alignment": bench.alignment.main,
    "memory": bench.memory.main,
    "latency": bench.latency.main,
    "recording": bench.recording.main,
    "speed": bench.speed.main,
}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
