"""What a log line looks like and what never gets into it."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared import logs
from shared.config import LoggingConfig
from shared.errors import BadConfig
from shared.settings import Secret

_ROOT = Path(logs.__file__).parents[1]
_LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Configure = Callable[..., logs.Logging]


@pytest.fixture
def configure() -> Iterator[Configure]:
    opened: list[logs.Logging] = []

    def configured(stream: io.StringIO, **settings: object) -> logs.Logging:
        opened.append(logs.Logging.configure(LoggingConfig(**settings), stream=stream))  # type: ignore[arg-type]
        return opened[-1]

    yield configured
    for each in opened:
        each.close()


def test_lines_are_json_when_nobody_watches(configure: Configure) -> None:
    stream = io.StringIO()
    configure(stream)
    logs.logger("test").info("episode.failed", source="robot", attempt=2)

    line = json.loads(stream.getvalue())
    assert (line["event"], line["source"], line["attempt"], line["level"]) == ("episode.failed", "robot", 2, "info")
    assert "timestamp" in line


def test_lines_are_readable_on_a_terminal(configure: Configure) -> None:
    stream = Terminal()
    configure(stream)
    logs.logger("test").info("episode.failed", source="robot")

    assert "episode.failed" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_old_format_string_means_console_with_a_notice(configure: Configure) -> None:
    stream = io.StringIO()
    configured = configure(stream, format="%(asctime)s %(message)s")
    logs.logger("test").info("episode.failed")

    assert "json or console" in configured.notices[0]
    assert not stream.getvalue().startswith("{")


def test_level_holds_back_what_is_below(configure: Configure) -> None:
    stream = io.StringIO()
    configure(stream, level="WARNING")
    logs.logger("test").info("episode.seen")
    logs.logger("test").warning("episode.failed")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["episode.failed"]


def test_other_libraries_are_heard_from_warning_on_in_the_same_form(configure: Configure) -> None:
    stream = io.StringIO()
    configure(stream, level="DEBUG")
    logging.getLogger("botocore").info("chatter")
    logging.getLogger("nats").warning("slow %s", "consumer")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["slow consumer"]


def test_secrets_never_reach_a_line(configure: Configure) -> None:
    stream = io.StringIO()
    configure(stream)
    logs.logger("test").info(
        "bus.error", servers="nats://me:hunter2@host", key=Secret("hunter2"), password="hunter2", counts={"secret_key": "hunter2"}
    )

    assert "hunter2" not in stream.getvalue()
    assert "nats://***@host" in stream.getvalue()


def test_file_is_rotated_and_as_many_kept_as_configured(configure: Configure, tmp_path: Path) -> None:
    configure(io.StringIO(), file=str(tmp_path / "logs" / "service.log"), max_bytes=2000, backup_count=2)
    for index in range(100):
        logs.logger("test").info("episode.seen", seq=index)

    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    last = json.loads((tmp_path / "logs" / "service.log").read_text().splitlines()[-1])
    assert files == ["service.log", "service.log.1", "service.log.2"]
    assert last["seq"] == 99


def test_log_file_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BadConfig, match=r"logging: file: "):
        logs.Logging.configure(LoggingConfig(file=str(tmp_path / "file" / "x.log")), stream=io.StringIO())


def test_traceback_of_an_error_is_in_its_line(configure: Configure) -> None:
    stream = io.StringIO()
    configure(stream)
    try:
        int("oops")
    except ValueError:
        logs.logger("test").error("handler.broken", exc_info=True)

    assert "ValueError: invalid literal" in json.loads(stream.getvalue())["exception"]


def test_every_log_call_has_a_literal_event_and_keys_of_the_closed_list() -> None:
    files = [path for folder in ("shared", "services", "cli") for path in (_ROOT / folder).rglob("*.py")]
    problems = [problem for path in files for problem in _problems(path)]

    assert problems == []


def _problems(path: Path) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and _is_log_call(node)]
    return [f"{path.name}:{call.lineno}: {ast.unparse(call)}" for call in calls if not _is_within_the_rules(call)]


def _is_log_call(call: ast.Call) -> bool:
    target = call.func
    return isinstance(target, ast.Attribute) and target.attr in _LEVELS and isinstance(target.value, ast.Name) and target.value.id == "_log"


def _is_within_the_rules(call: ast.Call) -> bool:
    is_literal = bool(call.args) and isinstance(call.args[0], ast.Constant) and "." in str(call.args[0].value)
    return is_literal and {keyword.arg for keyword in call.keywords} <= logs.KEYS
