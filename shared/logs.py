"""Logging: structured lines, JSON when nobody watches, readable on a terminal, optionally into a rotated file.

Decides how a line looks, what may be in it (``KEYS``) and that no secret is. Other libraries' log lines go the
same way, from WARNING on.
"""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Self, TextIO

import structlog

from shared.config import LoggingConfig
from shared.errors import BadConfig
from shared.settings import Secret

KEYS = frozenset(
    {
        # who and what
        *("service", "stage", "name", "host", "pid", "version", "signal", "state", "reason", "outcome", "notice"),
        # which episode and event
        *("source", "episode_id", "strategy", "task", "dataset", "spool", "digest", "token"),
        *("subject", "stream", "durable", "durables", "seq", "attempt", "attempts", "message_id", "duplicate"),
        # how much and how long
        *("duration_s", "delay_s", "interval_s", "grace_s", "num_bytes", "num_episodes", "num_files", "num_frames", "num_rows", "frames"),
        *("num_done", "num_failed", "num_retried", "num_returned", "num_ended", "num_published", "slots", "fps", "rate_hz", "counts"),
        # where
        *("path", "uri", "key", "servers", "url", "port", "camera", "arm", "robot", "place"),
        # what went wrong
        *("error", "error_type", "exc_info"),
    }
)
"""Every key a log call may use; a test reads the calls."""

_SECRET_KEYS = re.compile(r"password|secret|access_key|credential|authorization", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"://[^/@\s]+@")
_ROOT = "episodeflow"
_LEVEL_OF_OTHERS = logging.WARNING


def logger(noun: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(f"{_ROOT}.{noun}")
    return bound


class Logging:
    """The configured logging of one process; close it to flush its file and let go of its handlers.

    Attributes:
        notices: sentences about the configuration that its owner should read.
    """

    def __init__(self, handlers: list[logging.Handler], notices: list[str]) -> None:
        self.notices = notices
        self._handlers = handlers

    @classmethod
    def configure(cls, config: LoggingConfig, *, stream: TextIO | None = None) -> Self:
        """Send every log line where the configuration says, from now on.

        Args:
            config: level, format, file and its rotation.
            stream: where lines go besides the file; None: standard error.

        Raises:
            BadConfig: the log file cannot be opened.
        """
        stream = stream or sys.stderr
        is_json, notices = _is_json(config, is_terminal=stream.isatty())
        handlers: list[logging.Handler] = [logging.StreamHandler(stream)]
        handlers[0].setFormatter(_formatter(is_json=is_json, has_colors=stream.isatty()))
        if config.file:
            handlers.append(_file_handler(config, config.file))
            handlers[1].setFormatter(_formatter(is_json=is_json, has_colors=False))
        for handler in handlers:
            logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(_LEVEL_OF_OTHERS)
        logging.getLogger(_ROOT).setLevel(config.level)
        structlog.configure(
            processors=[
                structlog.stdlib.filter_by_level,
                *_SHARED_PROCESSORS,
                structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
            ],
            logger_factory=structlog.stdlib.LoggerFactory(),
            wrapper_class=structlog.stdlib.BoundLogger,
            cache_logger_on_first_use=False,
        )
        return cls(handlers, notices)

    def close(self) -> None:
        """Flush and close; what is logged later goes nowhere but to the defaults of structlog."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
        structlog.reset_defaults()


def masked(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return the line without secrets: values of keys that sound like one, and credentials inside addresses."""
    return {key: "***" if _SECRET_KEYS.search(key) else _masked_value(value) for key, value in line.items()}


def _masked_value(value: Any) -> Any:
    if isinstance(value, Secret):
        return "***"
    if isinstance(value, str):
        return _URL_CREDENTIALS.sub("://***@", value)
    if isinstance(value, dict):
        return dict(masked(None, "", value))
    return [_masked_value(item) for item in value] if isinstance(value, list | tuple) else value


_SHARED_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
    masked,
]


def _is_json(config: LoggingConfig, *, is_terminal: bool) -> tuple[bool, list[str]]:
    if config.format in {None, "json", "console"}:
        return config.format == "json" or (config.format is None and not is_terminal), []
    return False, [f"logging.format is now json or console (found {config.format!r}); taken as console"]


def _formatter(*, is_json: bool, has_colors: bool) -> logging.Formatter:
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(default=str) if is_json else structlog.dev.ConsoleRenderer(colors=has_colors)
    )
    return structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        foreign_pre_chain=_SHARED_PROCESSORS,
    )


def _file_handler(config: LoggingConfig, file: str) -> logging.Handler:
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        return logging.handlers.RotatingFileHandler(file, maxBytes=config.max_bytes, backupCount=config.backup_count, encoding="utf-8")
    except OSError as error:
        raise BadConfig("logging", "file", f"{error} (found {file!r}, expected a file this user may write)") from error
