"""Configuration gets in whole, or is refused with file, key, found value and expectation; secrets never show."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from shared.errors import BadConfig
from shared.settings import Secret, decode, merged, read_yaml, without_retired


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    size: Annotated[int, msgspec.Meta(ge=1)] = 1
    password: Secret | None = None
    access_key: Secret | None = None


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    inner: Inner = msgspec.field(default_factory=Inner)
    items: tuple[Inner, ...] = ()


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(BadConfig) as caught:
        decode(document, Outer, place="file.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("a: ${X}", {"X": "1"}, {"a": "1"}),
        ("a: ${X}", {}, {}),
        ("a: ${X}", {"X": ""}, {}),
        ("a: ${X:-d}", {}, {"a": "d"}),
        ("a: ${X:-d}", {"X": "1"}, {"a": "1"}),
        ("a: ${X:-}", {}, {"a": ""}),
        ("a: x${X}y${Y:-2}", {"X": "1"}, {"a": "x1y2"}),
        ("a: [{b: '${X}'}]", {"X": "1"}, {"a": [{"b": "1"}]}),
        ("a: $X $(X) {X}", {"X": "1"}, {"a": "$X $(X) {X}"}),
        ("a: ${X}", {"X": "${Y}", "Y": "2"}, {"a": "${Y}"}),
        ("", {}, {}),
        ("# nothing", {}, None),
    ],
)
def test_names_are_filled_in_from_the_environment(tmp_path: Path, text: str, environ: dict[str, str], expected: dict[str, Any]) -> None:
    assert read_yaml(written(tmp_path, text), environ) == (expected or {})


def test_an_unset_name_inside_a_text_is_refused_with_key_and_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, "a: {b: ['x', 'http://${HOST}/']}")

    with pytest.raises(BadConfig) as caught:
        read_yaml(path, {})

    assert str(caught.value) == f"{path}: a.b[1]: the environment variable HOST is not set: export it, or write ${{HOST:-default}}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- 1", "holds a list, expected keys and values"),
        ("word", "holds a str, expected keys and values"),
        ("a: [", "is not valid YAML: "),
        ("a: !!python/object/apply:os.system [ls]", "is not valid YAML: "),
        (b"a: \xff", "cannot be read: "),
        ("a: " + "[" * 5000 + "]" * 5000, "is nested too deeply, expected keys of the configuration"),
    ],
)
def test_a_file_that_is_no_yaml_mapping_is_refused(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = written(tmp_path, text)

    with pytest.raises(BadConfig) as caught:
        read_yaml(path, {})

    assert str(caught.value).startswith(f"{path}: {problem}")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as caught:
        read_yaml(tmp_path / "none.yaml", {})

    assert str(caught.value).startswith(f"{tmp_path}/none.yaml: cannot be read: ")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"inner": {"size": 0}}, "file.yaml: inner.size: expected `int` >= 1 (found 0)"),
        ({"inner": {"size": "3"}}, "file.yaml: inner.size: expected `int`, got `str` (found '3')"),
        ({"inner": {"sise": 3}}, "file.yaml: inner.sise: unknown key; docs/configuration.md lists the keys"),
        ({"outer": 1}, "file.yaml: outer: unknown key; docs/configuration.md lists the keys"),
        ({"inner": []}, "file.yaml: inner: expected `object`, got `array`"),
        ({"items": [{}, {"size": -5}]}, "file.yaml: items[1].size: expected `int` >= 1 (found -5)"),
        ({"items": [{}, {"x": 1}]}, "file.yaml: items[1].x: unknown key; docs/configuration.md lists the keys"),
    ],
)
def test_a_wrong_key_type_or_value_is_refused_with_its_path_and_value(document: dict[str, Any], sentence: str) -> None:
    assert refusal(document) == sentence


@pytest.mark.parametrize("value", [12.75, True, ["hunter2"], {"x": "hunter2"}])
@pytest.mark.parametrize("key", ["password", "access_key"])
def test_a_secret_of_a_wrong_type_is_refused_without_showing_it(key: str, value: Any) -> None:
    sentence = refusal({"inner": {key: value}})

    assert sentence.startswith(f"file.yaml: inner.{key}: expected `str`, got ")
    assert not any(shown in sentence for shown in ("12.75", "True", "hunter2"))


@pytest.mark.parametrize("value", ["hunter2", 4711])
def test_a_secret_shows_itself_only_when_asked(value: str | int) -> None:
    secret = decode({"inner": {"password": value}}, Outer, place="x").inner.password

    assert secret is not None
    assert secret.reveal() == str(value)
    assert [repr(secret), str(secret), f"{secret}", f"{Inner(password=secret)}".count(str(value))] == ["Secret(***)"] * 3 + [0]
    assert pickle.loads(pickle.dumps(secret)) == secret
    assert (bool(Secret("")), secret == Secret(str(value)), hash(secret) == hash(Secret(str(value)))) == (False, True, True)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, {"a": {"b": 1, "c": 2}, "d": [1]}),
        ({"a": {"b": 7}}, {"a": {"b": 7, "c": 2}, "d": [1]}),
        ({"a.b": 7}, {"a": {"b": 7, "c": 2}, "d": [1]}),
        ({"d": []}, {"a": {"b": 1, "c": 2}, "d": []}),
        ({"d.x": 1}, {"a": {"b": 1, "c": 2}, "d": {"x": 1}}),
        ({"a": None}, {"a": None, "d": [1]}),
        ({"e.f.g": 1, "e": {"f": {"h": 2}}}, {"a": {"b": 1, "c": 2}, "d": [1], "e": {"f": {"g": 1, "h": 2}}}),
    ],
)
def test_overrides_lie_over_a_document_that_stays_as_it_is(overrides: dict[str, Any], expected: dict[str, Any]) -> None:
    document = {"a": {"b": 1, "c": 2}, "d": [1]}

    assert merged(document, overrides) == expected
    assert document == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_overrides_nested_without_end_are_refused() -> None:
    with pytest.raises(BadConfig) as caught:
        merged({}, {".".join("a" * 100_000): 1})

    assert str(caught.value) == "config_overrides: is nested too deeply, expected keys of the configuration"


def test_retired_keys_are_taken_out_with_a_notice_each() -> None:
    document = {"a": {"old": 1, "kept": 2}, "gone": {"x": 1}, "b": 3}
    result, notices = without_retired(document, {"a.old": "why", "gone": "because", "b.c": "no", "z": "no"}, place="f.yaml")

    assert result == {"a": {"kept": 2}, "b": 3}
    assert notices == ["f.yaml: a.old is accepted and ignored: why", "f.yaml: gone is accepted and ignored: because"]
    assert "old" in document["a"]  # type: ignore[operator]
