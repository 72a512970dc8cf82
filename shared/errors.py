"""The error tree: what went wrong, and therefore what a service does about it.

    EpisodeflowError
    ├── Retryable            try again later: the world may heal        → nak with a growing delay
    │   ├── StoreUnavailable     the object store does not answer, or answers 5xx
    │   ├── BusUnavailable       NATS does not answer, or refused for now
    │   ├── LedgerUnavailable    Redis does not answer
    │   ├── DiskFull             no room for the work
    │   ├── DatasetBusy          another uploader's turn at a growing dataset (shared/leases)
    │   ├── WorkerCrashed        the process of one episode died (out of memory, signal)
    │   ├── RobotUnreachable     a serial port or a servo does not answer (services/recorder/robots)
    │   └── CameraUnreachable    a camera or the process of the cameras does not answer (services/recorder/cameras)
    └── Rejected             trying again cannot help: somebody must act → episode.failed
        ├── BadEvent             an event that does not decode or names what is not configured
        ├── BadConfig            a configuration file or override
        ├── BadRaw               a raw episode: which file, what was found, what was expected
        ├── Filtered             a sound raw episode that the configured filters hold back
        ├── BadDataset           a dataset that is not what LeRobot v2.1 needs
        ├── RobotRefused         an arm or its calibration is not what the options say (services/recorder/robots)
        ├── CameraRefused        a camera is not what the options say (services/recorder/cameras)
        └── Refused              a server refused us: credentials, permissions, missing bucket or stream

An error builds its own message: one sentence that names the file or key, what was found, what was
expected and what to do. A programmer's mistake is a plain ``ValueError`` and crashes.
"""

from __future__ import annotations


class EpisodeflowError(Exception):
    """Every error this product raises on purpose."""


class Retryable(EpisodeflowError):
    """The world may heal: the message is delivered again later."""


class Rejected(EpisodeflowError):
    """Trying again cannot help: the episode fails with this sentence."""


class StoreUnavailable(Retryable):
    """The object store does not answer, or answered that it cannot now."""


class BusUnavailable(Retryable):
    """NATS does not answer."""


class LedgerUnavailable(Retryable):
    """Redis does not answer."""


class DiskFull(Retryable):
    """The disk has no room for the work."""


class WorkerCrashed(Retryable):
    """The process that worked on one episode died without an answer."""


class BadEvent(Rejected):
    """An event does not decode, or names what is not configured."""


class BadConfig(Rejected):
    """A configuration value is wrong.

    Args:
        place: the file, or what stands for it (``config_overrides``).
        key: dotted path of the key, empty for the whole file.
        problem: what was found and what was expected.
    """

    def __init__(self, place: str, key: str, problem: str) -> None:
        self.place = place
        self.key = key
        self.problem = problem
        where = f"{place}: {key}" if key else place
        super().__init__(f"{where}: {problem}")

    def __reduce__(self) -> tuple[type[BadConfig], tuple[str, str, str]]:
        """Survive the way from a worker process to its service."""
        return type(self), (self.place, self.key, self.problem)


class BadRaw(Rejected):
    """A raw episode cannot be converted.

    Args:
        path: the file or folder, relative to the episode where it lies inside.
        problem: what was found and what was expected.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")

    def __reduce__(self) -> tuple[type[BadRaw], tuple[str, str]]:
        """Survive the way from a worker process to its service."""
        return type(self), (self.path, self.problem)


class Filtered(Rejected):
    """A sound raw episode that a configured filter holds back."""


class BadDataset(Rejected):
    """A dataset folder is not what LeRobot v2.1 needs."""


class Refused(Rejected):
    """A server refused us: credentials, permissions, or something missing on it."""
