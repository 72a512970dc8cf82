"""Messages between the recorder and its camera process."""

import pytest

from services.recorder.cameras.messages import (
    LENGTH_BYTES,
    Discard,
    Message,
    Open,
    Opened,
    Problem,
    Refusal,
    Show,
    Start,
    Status,
    Stop,
    Stopped,
    answer,
    packed,
    request,
)
from services.recorder.cameras.reports import CameraProblem, CameraStatus, FrameTally
from tests.services.recorder.cameras.scenes import options

REPORT = FrameTally(fps=30, start_us=0).report(end_us=1, num_lost=0, num_damaged=0, num_repeated=0, problem=None)


@pytest.mark.parametrize(
    "message",
    [Open({"left": options()}, 123, None), Start("folder", 5), Stop(6), Discard(), Show({"gripper.pos": 1.5}, 7)],
    ids=lambda message: type(message).__name__,
)
def test_requests_arrive_as_they_were_sent(message: Message) -> None:
    data = packed(message)

    assert request(data[LENGTH_BYTES:]) == message
    assert int.from_bytes(data[:LENGTH_BYTES], "big") == len(data) - LENGTH_BYTES


@pytest.mark.parametrize(
    "message",
    [
        Opened(None),
        Refusal("refused", "why"),
        Stopped({"left": REPORT}),
        Status({"left": CameraStatus(fps=30.0, is_delivering=True)}),
        Problem(CameraProblem(camera="left", message="why")),
    ],
    ids=lambda message: type(message).__name__,
)
def test_answers_arrive_as_they_were_sent(message: Message) -> None:
    assert answer(packed(message)[LENGTH_BYTES:]) == message
