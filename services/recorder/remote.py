"""A recorder that is driven over the bus: a micro-service with the endpoints ``start``, ``stop``, ``discard`` and ``status``.

Requests go to ``episodeflow.recorder.{robot}.{endpoint}``; ``start`` may carry ``{"task": "…"}``. Every answer is the
recorder's status, with ``error`` if it could not do what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import msgspec

from services.recorder.recording import Recording
from services.recorder.session import Key, Phase
from services.recorder.wording import RecorderStatus
from shared.episode import task_problem
from shared.errors import EpisodeflowError, Refused
from shared.permissions import RECORDER_SUBJECT
from shared.registration import Endpoint


class Answer(RecorderStatus, frozen=True, kw_only=True):
    """What a request is answered with: the status after it; ``error`` says why it was not done."""

    error: str | None = None


class _Start(msgspec.Struct, frozen=True):
    """What ``start`` may say."""

    task: str | None = None


def robot_token(robot: str) -> str:
    """Return a robot's name as one token of a subject."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", robot) or "robot"


def endpoints(recording: Recording, robot: str) -> list[Endpoint]:
    """Return what the recorder of a robot answers."""
    handlers = {"start": _start, "stop": _stop, "discard": _discard, "status": _status}
    return [
        Endpoint(name=name, subject=f"{RECORDER_SUBJECT}.{robot_token(robot)}.{name}", answer=_answering(recording, handler))
        for name, handler in handlers.items()
    ]


def _answering(recording: Recording, handler: Callable[[Recording, bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(body: bytes) -> bytes:
        error: str | None = None
        try:
            await handler(recording, body)
        except EpisodeflowError as problem:
            error = str(problem)
        status = recording.status()
        return msgspec.json.encode(Answer(**{name: getattr(status, name) for name in status.__struct_fields__}, error=error))

    return answer


async def _start(recording: Recording, body: bytes) -> None:
    try:
        wanted = msgspec.json.decode(body, type=_Start) if body.strip() else _Start()
    except msgspec.DecodeError as error:
        raise Refused(f'the request is no {{"task": "…"}}: {error}; send that, or nothing') from error
    status = recording.status()
    _expect(status, "waiting")
    if status.episode > status.num_episodes:
        raise Refused(f"{status.num_episodes} of {status.num_episodes} episodes are there: raise --dataset.num_episodes to record more")
    if wanted.task is not None:
        problem = task_problem(wanted.task) if wanted.task.strip() else "has no words, expected an instruction"
        if problem:
            raise Refused(f"task {problem}")
        recording.set_task(wanted.task)
    await recording.ask(Key.NEXT, expected=Phase.RESETTING)


async def _stop(recording: Recording, _: bytes) -> None:
    _expect(recording.status(), "recording")
    await recording.ask(Key.NEXT, expected=Phase.RECORDING)


async def _discard(recording: Recording, _: bytes) -> None:
    _expect(recording.status(), "recording")
    await recording.ask(Key.REDO, expected=Phase.RECORDING)


async def _status(_: Recording, __: bytes) -> None:
    """Nothing to do: the answer is the status."""


def _expect(status: RecorderStatus, phase: str) -> None:
    if status.phase != phase:
        raise Refused(f"the recorder is {status.phase}, expected it to be {phase}: ask for its status")
