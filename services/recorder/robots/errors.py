"""What goes wrong with an arm: the robot's branch of the error tree of ``shared.errors``.

Retryable ── RobotUnreachable   the port is gone, a servo is silent: cable, power, adapter
Rejected  ── RobotRefused       somebody must act: another model, no calibration, a port in use, a wrong option
"""

from __future__ import annotations

from shared.errors import Rejected, Retryable


class RobotUnreachable(Retryable):
    """The port or a servo does not answer."""


class RobotRefused(Rejected):
    """An arm or its calibration is not what the options say."""


class TorqueUnconfirmed(RobotUnreachable):
    """Arms were let go, and not all of them confirmed it: whoever stands beside them has to know at once."""
