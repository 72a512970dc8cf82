"""The door to Rerun: what it writes to a file, and what it refuses."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rerun
from rerun.chunk import RrdReader

from services.recorder.cameras.display import NO_SCREEN, Display, display
from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.opencv import encoded
from tests.services.recorder.cameras.scenes import scene

ROOT = Path(__file__).parents[4]
START_US = 1_764_564_821_000_000


def shown(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of a Rerun file by entity; times in nanoseconds."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for chunk in RrdReader(path).stream().to_chunks():
        batch = chunk.to_record_batch()
        columns = {name: batch[name] for name in batch.schema.names if name != "log_time"}
        plain = {name: (column.cast(pa.int64()) if name == "time" else column).to_pylist() for name, column in columns.items()}
        rows.setdefault(chunk.entity_path, []).extend(dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True))
    return rows


def test_images_and_joints_are_in_the_file(tmp_path: Path) -> None:
    data = encoded(scene(0))
    screen = Display(str(tmp_path / "show.rrd"))
    screen.image("left", START_US, data)
    screen.joints({"left_gripper.pos": 12.5}, START_US)
    screen.close()

    rows = shown(tmp_path / "show.rrd")

    (image,) = rows["/cameras/left"]
    (joint,) = rows["/joints/left_gripper.pos"]
    assert [bytes(value[0]) for name, value in image.items() if name.endswith(":blob")] == [data]
    assert [value for name, value in joint.items() if name.endswith(":scalars")] == [[12.5]]
    assert image["time"] == joint["time"] == START_US * 1000


def test_at_most_ten_images_a_second_and_camera_are_shown(tmp_path: Path) -> None:
    screen = Display(str(tmp_path / "show.rrd"))
    for index in range(30):
        for camera in ("left", "right"):
            screen.image(camera, START_US + index * 33_334, b"frame %d" % index)
    screen.close()

    rows = shown(tmp_path / "show.rrd")

    assert [len(rows[f"/cameras/{camera}"]) for camera in ("left", "right")] == [10, 10]


def test_no_display_is_asked_for_by_none() -> None:
    assert display(None, has_screen=True) == (None, None)


@pytest.mark.parametrize("place", ["", "spawn"])
def test_a_host_without_a_screen_goes_on_without_a_viewer_and_says_so(place: str) -> None:
    assert display(place, has_screen=False) == (None, NO_SCREEN)


def test_a_viewer_that_does_not_listen_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(CameraUnreachable, match=rf"the display '{place}' cannot be opened .*Connection refused"):
            Display(place)


@pytest.mark.parametrize("place", ["screen", "host:port", ":9876"])
def test_a_place_that_is_none_is_refused(place: str) -> None:
    with pytest.raises(CameraRefused, match=f"the display '{place}' is unknown, expected 'spawn', HOST:PORT"):
        Display(place)


def test_a_file_that_cannot_be_written_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(CameraUnreachable, match=r"absent/show.rrd' cannot be opened"):
        Display(str(tmp_path / "absent" / "show.rrd"))


def test_a_viewer_that_listens_is_used() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    viewer = rerun.RecordingStream("viewer")
    viewer.serve_grpc(grpc_port=port)

    screen = Display(f"127.0.0.1:{port}")
    screen.joints({"left_gripper.pos": 12.5}, START_US)
    screen.close()
    viewer.disconnect()

    assert not screen.is_busy


WITHOUT_RERUN = """
import sys
sys.modules["rerun"] = None
from services.recorder.cameras.display import display
from services.recorder.cameras.errors import CameraRefused
try:
    display("show.rrd", has_screen=True)
except CameraRefused as error:
    print(error)
"""


def test_a_host_without_rerun_is_told_what_to_install() -> None:
    said = subprocess.run([sys.executable, "-c", WITHOUT_RERUN], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert said == "--display_data=true needs Rerun, which is not installed: pip install 'episodeflow[display]'\n"
