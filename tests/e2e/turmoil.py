"""Doing harm to a lab, in a seeded order: SIGKILL, pauses beyond the ack wait, a store that misbehaves, a full disk."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections import Counter

from tests.e2e.faults import ACK_WAIT_S, Lab
from tests.e2e.processes import ServiceProcess

KILLED = ("converter", "uploader", "scanner", "nats", "valkey", "s3")

_FAULTY_SHARE = 0.3
_FAULTY_S = 2.0
_FULL_S = 2.0
_FILL_BYTES = 64 * 1024


class Turmoil:
    """Harm for one lab.

    Args:
        lab: its services run.
        seed: of the order and the moments.
        longest_pause_s: between two deeds.

    Attributes:
        kills: by what was killed.
        others: other harm, by kind.
    """

    def __init__(self, lab: Lab, *, seed: int, longest_pause_s: float) -> None:
        self._lab = lab
        self._dice = random.Random(seed)
        self._longest_pause_s = longest_pause_s
        self.kills: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    async def run(self, deeds: list[str]) -> None:
        """Do every deed, in a random order, each after a moment."""
        self._dice.shuffle(deeds)
        for deed in deeds:
            await asyncio.sleep(self._dice.uniform(0.1, self._longest_pause_s))
            await self._do(deed)

    async def _do(self, deed: str) -> None:
        lab = self._lab
        match deed:
            case "converter":
                await self._restarted(self._dice.choice(lab.converters))
            case "uploader" | "scanner":
                await self._restarted(lab.services[deed])
            case "nats":
                await lab.nats.kill()
                await lab.nats.restart()
            case "valkey":
                await lab.valkey.kill()
                await asyncio.sleep(self._dice.uniform(0, 0.5))
                await lab.valkey.restart()
            case "s3":
                await lab.s3.kill()
                await lab.s3.start()
            case _:
                await self._other(deed)
                return
        self.kills[deed] += 1

    async def _restarted(self, service: ServiceProcess) -> None:
        await service.kill(with_family=self._dice.random() < 0.5)
        await service.start()

    async def _other(self, deed: str) -> None:
        lab = self._lab
        match deed:
            case "pause":
                service = self._dice.choice([*lab.converters, lab.services["uploader"]])
                service.pause()
                await asyncio.sleep(ACK_WAIT_S + 1)
                service.resume()
            case "faulty store":
                lab.proxy.share = _FAULTY_SHARE
                await asyncio.sleep(_FAULTY_S)
                lab.proxy.share = 0.0
            case "full disk":
                await self._fill()
            case _:
                raise ValueError(deed)
        self.others[deed] += 1

    async def _fill(self) -> None:
        """Leave no room on the spool's file system for a while."""
        ballast = self._lab.spool / ".ballast"
        with ballast.open("wb", buffering=0) as opened:
            for size in (_FILL_BYTES, 4096, 1):
                try:
                    while True:
                        opened.write(bytes(size))
                except OSError:
                    pass
        await asyncio.sleep(_FULL_S)
        ballast.unlink()


def has_own_disk(lab: Lab) -> bool:
    """Whether the spool lies on a small file system of its own, which may be filled."""
    return lab.spool.exists() and shutil.disk_usage(lab.spool).total < 256 * 1024 * 1024
