"""Decoding a YAML file or a mapping into frozen structs, with refusals that name file, key and value.

Decides how a configuration value gets in: ``${NAME}`` from the environment, secrets masked, unknown keys
refused, keys of the old polling design accepted with a notice. What the keys mean stands in ``config``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shared.errors import BadConfig

T = TypeVar("T")


class Secret:
    """A value that never shows itself: ``repr`` and ``str`` are masked, ``reveal()`` gives it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; call it only where it leaves the process."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def read_yaml(path: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the mapping in a YAML file with ``${NAME}`` filled in.

    A value that is nothing but ``${NAME}`` with NAME unset counts as a key that is not there;
    ``${NAME:-default}`` has a default; an unset name inside a longer text is refused.

    Raises:
        BadConfig: the file is missing, no YAML, no mapping, or names an unset variable.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(str(path), "", f"cannot be read: {error}") from error
    try:
        document = msgspec.yaml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadConfig(str(path), "", f"is not valid YAML: {' '.join(str(error).split())}") from error
    if document is None:  # empty, or comments only
        return {}
    if not isinstance(document, dict):
        raise BadConfig(str(path), "", f"holds a {type(document).__name__}, expected keys and values")
    try:
        filled: dict[str, Any] = _fill(document, environ, str(path), "")
    except RecursionError as error:
        raise BadConfig(str(path), "", "is nested too deeply, expected keys of the configuration") from error
    return filled


def decode(document: Mapping[str, Any], struct: type[T], *, place: str) -> T:
    """Return ``document`` as ``struct``.

    Args:
        document: nested mappings of plain values.
        struct: a msgspec struct that forbids unknown fields.
        place: the file, or what stands for it, for the error.

    Raises:
        BadConfig: an unknown key, a wrong type or a value outside its bounds, with the key's path.
    """
    try:
        return msgspec.convert(document, type=struct, dec_hook=_decode_secret, strict=True)
    except msgspec.ValidationError as error:
        key, problem = _explain(str(error), document)
        raise BadConfig(place, key, problem) from error


def merged(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``document`` with ``overrides`` laid over it; nested mappings merge, dotted keys reach inside.

    Raises:
        BadConfig: the overrides are nested more deeply than any configuration.
    """
    try:
        return _merged(document, overrides)
    except RecursionError as error:
        raise BadConfig("config_overrides", "", "is nested too deeply, expected keys of the configuration") from error


def _merged(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(document)
    for dotted, value in overrides.items():
        key, _, rest = str(dotted).partition(".")
        laid_over = {rest: value} if rest else value
        below = result.get(key)
        result[key] = _merged(below if isinstance(below, Mapping) else {}, laid_over) if isinstance(laid_over, Mapping) else laid_over
    return result


def without_retired(document: Mapping[str, Any], retired: Mapping[str, str], *, place: str) -> tuple[dict[str, Any], list[str]]:
    """Return the document without the keys of the old design, and one notice for each that was there.

    Args:
        document: nested mappings.
        retired: reason by dotted key path.
        place: the file, for the notices.
    """
    notices = []
    result: dict[str, Any] = dict(document)
    for dotted, reason in retired.items():
        *parents, last = dotted.split(".")
        result, found = _without(result, parents, last)
        if found:
            notices.append(f"{place}: {dotted} is accepted and ignored: {reason}")
    return result, notices


def _without(document: dict[str, Any], parents: list[str], last: str) -> tuple[dict[str, Any], bool]:
    if not parents:
        return {key: value for key, value in document.items() if key != last}, last in document
    below = document.get(parents[0])
    if not isinstance(below, dict):
        return document, False
    below, found = _without(below, parents[1:], last)
    return {**document, parents[0]: below}, found


class _Unset:
    """The mark of a value whose environment variable is not set."""


_UNSET = _Unset()
_LONGEST_SHOWN = 200
_SECRET_KEY = re.compile(r"(password|_key)$")
_WHOLE = re.compile(r"^\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}$")
_INSIDE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def _fill(value: Any, environ: Mapping[str, str], place: str, key: str) -> Any:
    if isinstance(value, dict):
        pairs = ((str(name), _fill(below, environ, place, f"{key}.{name}" if key else str(name))) for name, below in value.items())
        return {name: below for name, below in pairs if below is not _UNSET}
    if isinstance(value, list):
        return [_fill(below, environ, place, f"{key}[{index}]") for index, below in enumerate(value)]
    return _fill_text(value, environ, place, key) if isinstance(value, str) else value


def _fill_text(text: str, environ: Mapping[str, str], place: str, key: str) -> Any:
    whole = _WHOLE.match(text)
    if whole:
        name, default = whole.groups()
        return environ.get(name) or (default if default is not None else _UNSET)

    def lookup(match: re.Match[str]) -> str:
        found = environ.get(match[1], match[2])
        if found is None:
            raise BadConfig(place, key, f"the environment variable {match[1]} is not set: export it, or write ${{{match[1]}:-default}}")
        return found

    return _INSIDE.sub(lookup, text)


def _decode_secret(wanted: type, value: Any) -> Any:
    if wanted is Secret and isinstance(value, str | int) and not isinstance(value, bool):
        return Secret(str(value))
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def _explain(message: str, document: Mapping[str, Any]) -> tuple[str, str]:
    """Split msgspec's ``problem - at `$.a.b``` and add the value that was found."""
    problem, _, path = message.partition(" - at ")
    key = path.strip("`").removeprefix("$").removeprefix(".")
    unknown = re.search(r"unknown field `([^`]*)`", problem)
    if unknown:
        return _shortened(f"{key}.{unknown[1]}" if key else unknown[1]), "unknown key; docs/configuration.md lists the keys"
    found = _value_at(document, key)
    hidden = found is _UNSET or isinstance(found, dict | list) or _SECRET_KEY.search(key)
    shown = "" if hidden else f" (found {_shortened(repr(found))})"
    return _shortened(key), f"{_shortened(problem[:1].lower() + problem[1:])}{shown}"


def _shortened(text: str) -> str:
    """Return a key or value of somebody's as a sentence may show it: printable and not endless."""
    escaped = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return escaped if len(escaped) <= _LONGEST_SHOWN else f"{escaped[:_LONGEST_SHOWN]}… ({len(text)} characters)"


def _value_at(document: Any, key: str) -> Any:
    value = document
    for step in re.findall(r"[^.\[\]]+", key):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _UNSET
    return value
