"""The documentation against the software: commands, flags, links, keys, fields, metrics and targets exist, and none is left out."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from msgspec import inspect

from cli.main import ALIASES, COMMANDS
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.reports import CameraReport
from services.recorder.cameras.synthetic_address import SyntheticCamera
from services.recorder.joints import JointRecording
from services.recorder.options import DatasetOptions, RecordOptions, record_options
from services.recorder.remote import Answer, endpoints
from services.recorder.robots.models import RobotOptions
from services.recorder.take import Take, metadata
from services.recorder.timing import LoopReport
from shared import events
from shared.config import StorageConfig, StrategyConfig
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded
from shared.metrics import Metrics
from shared.retired import RETIRED_STORAGE_KEYS
from tests.test_house import DOORS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/conformance/README.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
EVENTS: tuple[type[EpisodeReady], ...] = (EpisodeReady, EpisodeConverted, EpisodeUploaded, EpisodeFailed)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [content for found, content in FENCE.findall(text) if found == language]


def section(text: str, heading: str, *, last: bool = False) -> str:
    """Return what stands below a heading, up to the next of the same or a higher level; the last of several if asked for."""
    level, rest = re.split(rf"^(#+) {re.escape(heading)}$", text, flags=re.MULTILINE)[-2:] if last else _first(text, heading)
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def _first(text: str, heading: str) -> list[str]:
    return re.split(rf"^(#+) {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1:]


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row below its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {index - 1 for index, row in enumerate(cells) if set(row[0]) == {"-"}}
    return [row for index, row in enumerate(cells) if index not in heads and set(row[0]) != {"-"}]


def slugs(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- commands ---------------------------------------------------------------------------------------------


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Yield the arguments of every line `episodeflow …` in a page's shell blocks, without comments and pipes."""
    for content in blocks(page.read_text(encoding="utf-8"), "sh"):
        for line in content.replace("\\\n", " ").splitlines():
            words = list(shlex.shlex(line, posix=True, punctuation_chars="|>")) if "episodeflow" in line else []
            words = shlex.split(re.split(r"\s[|>]", line)[0], comments=True) if words else []
            if words[:1] == ["episodeflow"]:
                yield words[1:]


def found_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """Return the command that words name, a group's own among them, and what follows it."""
    name = ALIASES.get(words[0], words[0])
    assert name in COMMANDS, f"episodeflow has no command {words[0]!r}"
    command: click.Command = importlib.import_module(COMMANDS[name][0]).command
    rest = words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


SHOWN = [(name_of(page), words) for page in PAGES for words in shown_commands(page)]


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=lambda value: value if isinstance(value, str) else " ".join(value))
def test_shown_command_line_is_accepted_by_its_command(page: str, words: list[str]) -> None:
    command, rest = found_command(words)

    assert command.make_context(words[0], rest) is not None, page


def test_commands_named_in_sentences_exist_with_their_flags() -> None:
    wrong, seen = [], 0
    for page in PAGES:
        for span in CODE_SPAN.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            words = span.split()
            if words[0].rpartition("/")[2] != "episodeflow" or len(words) == 1:
                continue
            seen += 1
            command, rest = found_command(words[1:])
            known = {name for parameter in command.params for name in parameter.opts} | {"-h", "--help"}
            wrong += [f"{name_of(page)}: {span}: {word}" for word in rest if word.startswith("-") and word not in known]

    assert seen > 20
    assert wrong == []


def test_every_command_is_shown_with_an_example() -> None:
    shown = {ALIASES.get(words[0], words[0]) for _, words in SHOWN}
    # These two are shown by their make target and in sentences.
    assert set(COMMANDS) - shown <= {"demo", "nats-users"}


def test_make_targets_that_are_named_exist_and_every_target_is_named() -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = {
        name for page in PAGES for name in re.findall(r"(?:^|`|PYTHON=\S+ )make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert named <= targets
    assert targets - named <= {"help", "clean"}


def test_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    screen = "\n".join(text_of("README.md").splitlines()[:40])

    assert "make demo" in screen
    assert "make test" in screen
    assert "Python 3.11" in screen
    assert "checked dataset" in screen


# --- links ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in slugs(file)):
            broken.append(target)

    assert broken == []


def test_files_that_are_named_in_sentences_exist() -> None:
    places = re.compile(r"^(?:shared|services|cli|tests|bench|docs|config|deploy)/[\w./-]*$")
    spans = {span for page in PAGES for span in CODE_SPAN.findall(FENCE.sub("", page.read_text(encoding="utf-8"))) if places.match(span)}

    assert len(spans) > 40
    assert [span for span in sorted(spans) if not (ROOT / span).exists()] == []


# --- configuration ----------------------------------------------------------------------------------------


def structs_of(kind: inspect.Type) -> Iterator[tuple[inspect.StructType, str]]:
    """Yield the structs in a field's type, and ``[]`` where they are in a list."""
    if isinstance(kind, inspect.StructType):
        yield kind, ""
    elif isinstance(kind, inspect.UnionType):
        for below in kind.types:
            yield from structs_of(below)
    elif isinstance(kind, inspect.VarTupleType):
        yield from ((struct, "[]") for struct, _ in structs_of(kind.item_type))
    elif isinstance(kind, inspect.Metadata):
        yield from structs_of(kind.type)


def defaults_of(fields: tuple[inspect.Field, ...], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a configuration and its default as the documentation writes it."""
    for field in fields:
        below = list(structs_of(field.type))
        is_plain_allowed = isinstance(field.type, inspect.VarTupleType) and not isinstance(field.type.item_type, inspect.StructType)
        if not below or is_plain_allowed:
            yield f"{prefix}{field.encode_name}", default_of(field)
        for struct, mark in below:
            yield from defaults_of(struct.fields, f"{prefix}{field.encode_name}{mark}.")


def default_of(field: inspect.Field) -> str:
    if field.required:
        return "required"
    made = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    return "unset" if made is None else f"`{msgspec.json.format(msgspec.json.encode(made), indent=0).decode()}`"


def documented_defaults(heading: str) -> dict[str, str]:
    rows = table_rows(section(text_of("docs/configuration.md"), heading))
    return {row[0].strip("`"): re.sub(r"\s", "", row[2]) for row in rows}


@pytest.mark.parametrize(("heading", "struct"), [("Strategy file", StrategyConfig), ("Storage file", StorageConfig)])
def test_documented_keys_and_defaults_are_those_of_the_structs(heading: str, struct: Any) -> None:
    kind = inspect.type_info(struct)
    assert isinstance(kind, inspect.StructType)

    assert documented_defaults(heading) == {key: re.sub(r"\s", "", default) for key, default in defaults_of(kind.fields)}


def test_documented_retired_keys_are_those_that_are_accepted_with_their_reason() -> None:
    rows = table_rows(section(text_of("docs/configuration.md"), "Keys of the old polling design"))

    assert {row[0].strip("`"): row[1] for row in rows} == RETIRED_STORAGE_KEYS


def test_documented_environment_variables_are_read_somewhere() -> None:
    names = set(re.findall(r"\b(?:NATS|REDIS|BOS|METRICS|LEROBOT)_[A-Z_]*[A-Z]\b", text_of("docs/configuration.md")))
    files = [*(ROOT / "shared").glob("*.py"), *(ROOT / "config").rglob("*.*")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in files)

    assert len(names) > 10
    assert [name for name in sorted(names) if name not in sources] == []


# --- recording --------------------------------------------------------------------------------------------


SECTIONS_OF_RECORD = {"robot", "teleop", "cameras", "dataset"}
STRUCT_BY_HEADING = {
    "Robot and teleoperator": RobotOptions,
    "Cameras": CameraOptions,
    "Dataset": DatasetOptions,
    "Recording": RecordOptions,
}
RECORDED = [(page, words[1:]) for page, words in SHOWN if words[0] in {"record", "recorder"}]


def flag_rows(heading: str) -> list[list[str]]:
    return table_rows(section(section(text_of("docs/recording.md"), "Flags"), heading))


@pytest.mark.parametrize("heading", STRUCT_BY_HEADING)
def test_documented_flags_and_defaults_are_those_of_the_structs(heading: str) -> None:
    kind = inspect.type_info(STRUCT_BY_HEADING[heading])
    assert isinstance(kind, inspect.StructType)
    own = {field.name: default_of(field) for field in kind.fields if heading != "Recording" or field.name not in SECTIONS_OF_RECORD}

    assert {row[0].strip("`"): row[2] for row in flag_rows(heading)} == own


def test_documented_faults_of_a_synthetic_camera_are_those_of_its_struct() -> None:
    rows = next(table for table in tables(section(text_of("docs/recording.md"), "Cameras", last=True)) if table[0][0] == "`size`")
    kind = inspect.type_info(SyntheticCamera)
    assert isinstance(kind, inspect.StructType)

    assert {row[0].strip("`"): row[1] for row in rows} == {field.name: default_of(field) for field in kind.fields if field.name != "name"}


@pytest.mark.parametrize(("page", "words"), RECORDED, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60])
def test_shown_flags_of_record_are_understood(page: str, words: list[str]) -> None:
    command, _ = found_command(["record"])
    printed = ["--robot.type=bi_so100_follower", "--teleop.type=bi_so100_leader"]  # what `simulate` says for FLAGS, without ports
    words = [each for word in words for each in (printed if word == "FLAGS" else [word])]
    flags = command.make_context("record", list(words)).args
    (example,) = blocks(text_of("docs/recording.md"), "yaml")
    has_file = "--config_path" in words
    options = record_options(flags, file=msgspec.yaml.decode(example) if has_file else None)

    assert options.cameras, page


def test_documented_yaml_file_is_what_record_takes() -> None:
    (example,) = blocks(text_of("docs/recording.md"), "yaml")
    options = record_options(["--dataset.resume=true"], file=msgspec.yaml.decode(example))

    assert (options.dataset.num_episodes, list(options.cameras)) == (25, ["top", "wrist"])


def test_documented_metadata_has_the_keys_that_are_written() -> None:
    documented = msgspec.json.decode(blocks(section(text_of("docs/recording.md"), "What a raw episode knows"), "json")[0])
    (example,) = blocks(text_of("docs/recording.md"), "yaml")
    options = record_options([], file=msgspec.yaml.decode(example))
    loop = msgspec.convert(documented["control"], LoopReport)
    camera = msgspec.convert(documented["cameras"]["left"], CameraReport)
    take = Take(
        number=1,
        event=EpisodeReady(episode_id="a", source="robot"),
        joints=JointRecording(arms={}, report=loop),
        cameras=dict.fromkeys(options.cameras, camera),
        problems=(),
        begun_us=0,
        ended_us=1,
    )
    written = msgspec.to_builtins(metadata(options, take))

    assert set(documented) == set(written) | {"source", "episode_id", "dataset", "nonce"}
    assert documented["control"] == written["control"]
    assert set(documented["cameras"]["left"]) == set(written["cameras"]["top"])


def test_documented_answer_of_a_recorder_has_its_fields() -> None:
    page = section(text_of("docs/recording.md"), "As a service")
    (example,) = blocks(page, "json")
    subjects, fields = tables(page)

    assert msgspec.json.decode(example, type=Answer).error is not None
    assert list(msgspec.json.decode(example)) == [row[0].strip("`") for row in fields]
    assert set(msgspec.json.decode(example)) == set(Answer.__struct_fields__)
    assert len(subjects) == 4


def test_documented_subjects_of_a_recorder_are_those_it_answers() -> None:
    subjects, _ = tables(section(text_of("docs/recording.md"), "As a service"))
    recording: Any = None  # asked for nothing here
    answered = [endpoint.subject for endpoint in endpoints(recording, "white")]

    assert [row[0].strip("`").replace("{robot}", "white") for row in subjects] == answered


QUOTED = {"What is printed": 12, "When it is refused": 20}


@pytest.mark.parametrize("heading", QUOTED)
def test_quoted_sentences_are_in_the_code(heading: str) -> None:
    rows = table_rows(section(text_of("docs/recording.md"), heading))
    code = "\n".join(texts_of_the_product())
    pieces = [(row[0], piece) for row in rows for piece in fixed_pieces(row[0])]

    assert len(rows) >= QUOTED[heading]
    assert {row[0] for row in rows} - {sentence for sentence, _ in pieces} == set()
    assert [(sentence, piece) for sentence, piece in pieces if piece not in code] == []


def fixed_pieces(cell: str) -> list[str]:
    """Return what a quoted sentence says whatever the numbers, names and paths in it are."""
    sentence = CODE_SPAN.findall(cell)[0]
    names = r"[…'`]|\d[\d.x/]*|/dev/\w+|--[\w.=]+|lab/\w+|\b(?:top|left|front|dataset\.fps|policy)\b"
    return [piece.strip(" :") for piece in re.split(names, sentence) if len(piece.strip(" :,.()")) > 4]


def texts_of_the_product() -> Iterator[str]:
    """Yield every text in the product, with nothing in the place of what is put in."""
    for path in [path for top in ("cli", "services", "shared") for path in (ROOT / top).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def tables(text: str) -> list[list[list[str]]]:
    """Return the rows of each table of a text."""
    return [table_rows(found) for found in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]


# --- events -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_documented_fields_are_those_of_the_event(event: type[EpisodeReady]) -> None:
    rows = table_rows(section(text_of("docs/events.md"), event.__name__))
    (parent,) = event.__bases__
    inherited = getattr(parent, "__struct_fields__", ())
    kind = inspect.type_info(event)
    assert isinstance(kind, inspect.StructType)
    own = {field.name: field.required for field in kind.fields if field.name not in inherited}

    assert {row[0].strip("`"): row[2] == "required" for row in rows} == own


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_example_of_an_event_decodes_and_has_no_other_field(event: type[EpisodeReady]) -> None:
    (example,) = blocks(section(text_of("docs/events.md"), event.__name__), "json")
    document = msgspec.json.decode(example)

    assert isinstance(events.decode(example.encode(), event), event)
    assert set(document) <= set(event.__struct_fields__)


# --- the rest ---------------------------------------------------------------------------------------------


def test_documented_metrics_are_those_that_are_served() -> None:
    rows = table_rows(section(text_of("docs/operations.md"), "What to watch"))
    documented = {row[0].strip("`") for row in rows}
    served = {re.sub(r"_(bucket|sum|count)$", "", name) for name in Metrics.names() if name.startswith("episodeflow_")}

    assert documented == served


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("*.md")), ids=lambda page: page.name)
def test_decision_has_its_five_parts_on_one_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Status", "Context", "Decision", "Consequences", "What would change our mind"]
    assert text.startswith(f"# {page.name[:4]} ")
    assert len(text.split()) < 450


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = sorted(int(page.name[:4]) for page in (ROOT / "docs/adr").glob("*.md"))

    assert numbers == list(range(1, len(numbers) + 1))


def test_every_door_of_a_library_is_in_the_architecture() -> None:
    table = section(text_of("ARCHITECTURE.md"), "The rules")

    assert [path for doors in DOORS.values() for path in doors if f"`{path}`" not in table] == []


def test_documentation_names_no_path_of_one_machine() -> None:
    private = re.compile(r"/work/|/root/|/home/\w+")

    assert [name_of(page) for page in PAGES if private.search(page.read_text(encoding="utf-8"))] == []
