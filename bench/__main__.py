"""``make bench``: every benchmark in turn, one line a figure."""

from __future__ import annotations

import sys

from bench import alignment, latency, memory, speed

BENCHMARKS = {"alignment": alignment.main, "memory": memory.main, "latency": latency.main, "speed": speed.main}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    for name in names or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
