"""The camera process: `python -m services.recorder.cameras FD`, started by `process`; its parent speaks over the socket FD.

It ends when the socket closes: with its parent, whatever ended that. Ctrl-C and the service manager's SIGTERM are its
parent's business, which still has an episode to end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from services.recorder.cameras.messages import LENGTH_BYTES, Message, packed, request

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the parent until it hangs up."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Read when OpenCV is loaded: its warnings about a camera that does not open are told in our words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    # Rerun looks for its viewer in the search path, where a virtual environment that nobody activated is not.
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    has_screen = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection, has_screen=has_screen)
    os._exit(0)  # a driver that does not return holds a thread; there is nothing left to lose


def _serve(connection: socket.socket, *, has_screen: bool) -> None:
    from services.recorder.cameras.rig import Rig  # noqa: PLC0415 - loads OpenCV, after its environment is set

    sending = threading.Lock()

    def tell(message: Message) -> None:
        try:
            with sending:
                connection.sendall(packed(message))
        except OSError:
            os._exit(1)  # the parent is gone; nobody wants frames any more

    rig = Rig(tell, has_screen=has_screen)
    while (length := _received(connection, LENGTH_BYTES)) is not None:
        data = _received(connection, int.from_bytes(length, "big"))
        if data is None:
            break
        rig.handle(request(data))
    rig.close()


def _received(connection: socket.socket, num_bytes: int) -> bytes | None:
    """Return exactly so many bytes, or None at the end."""
    data = b""
    while len(data) < num_bytes:
        more = connection.recv(num_bytes - len(data))
        if not more:
            return None
        data += more
    return data


if __name__ == "__main__":
    main()
