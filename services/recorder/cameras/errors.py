"""What goes wrong with a camera: the cameras' branch of the error tree of ``shared.errors``.

Retryable ── CameraUnreachable   unplugged, silent, in use by another program, its process died
Rejected  ── CameraRefused       somebody must act: no such index, another resolution, a wrong option
"""

from __future__ import annotations

from shared.errors import Rejected, Retryable


class CameraUnreachable(Retryable):
    """A camera, or the process that reads the cameras, does not answer."""


class CameraRefused(Rejected):
    """A camera is not what the options say."""


def sentence(camera: str, place: object, problem: str) -> str:
    """Return how a problem of a camera is told.

    Args:
        camera: its name in ``--robot.cameras``.
        place: its ``index_or_path``.
        problem: what was found, what was expected and what to do.
    """
    return f"camera {camera} (--robot.cameras, index_or_path {place}): {problem}"
