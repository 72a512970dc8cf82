"""Kills a commit at each of its steps: a program that forks one child per step, so that imports are paid once.

Usage: python -m tests.shared.lerobot.crashes PART TEMPLATE FOLDER
TEMPLATE is the dataset before the commit, or a path that does not exist. FOLDER gets one folder per step and way of
dying (``before-007``, ``middle-007``); the last step is the first at which the child lived to the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from shared.lerobot.commit import commit
from shared.lerobot.disk import Disk


class DyingDisk(Disk):
    """A disk whose process is killed (SIGKILL) at one step, before it or in the middle of it."""

    def __init__(self, last_step: int, *, in_the_middle: bool) -> None:
        super().__init__()
        self.steps_left = last_step
        self.in_the_middle = in_the_middle

    def _step(self, half_done: object = None) -> None:
        self.steps_left -= 1
        if self.steps_left < 0:
            if self.in_the_middle and callable(half_done):
                half_done()
            os.kill(os.getpid(), signal.SIGKILL)

    def make_folder(self, path: Path) -> None:
        self._step()
        super().make_folder(path)

    def write(self, path: Path, content: bytes) -> None:
        self._step(lambda: path.write_bytes(content[: len(content) // 2]))
        super().write(path, content)

    def extend_lines(self, source: Path, target: Path, tail: bytes) -> None:
        self._step(lambda: target.write_bytes(tail[: len(tail) // 2]))
        super().extend_lines(source, target, tail)

    def link(self, source: Path, target: Path) -> None:
        self._step(lambda: target.write_bytes(source.read_bytes()[:100]))
        super().link(source, target)

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def remove_folder(self, path: Path) -> None:
        self._step(lambda: [file.unlink() for file in sorted(path.rglob("*.staged"))[::2]])
        super().remove_folder(path)


def main(part: Path, template: Path, folder: Path) -> None:
    """Kill one child per step and way until one of each way lives."""
    for way in ("before", "middle"):
        for step in range(1000):
            dataset = folder / f"{way}-{step:03d}" / "dataset"
            dataset.parent.mkdir(parents=True)
            if template.exists():
                shutil.copytree(template, dataset)
            if _dies(part, dataset, DyingDisk(step, in_the_middle=way == "middle")) is False:
                break


def _dies(part: Path, dataset: Path, disk: DyingDisk) -> bool:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            commit(part, dataset, disk=disk)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        raise SystemExit(f"the commit into {dataset} failed instead of being killed")
    return False


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
