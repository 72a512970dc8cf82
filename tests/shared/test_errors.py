"""The error tree says what a service does, and errors survive the way between processes."""

from __future__ import annotations

import pickle

import pytest

from shared import errors
from shared.errors import BadConfig, BadRaw, EpisodeflowError, Rejected, Retryable

LEAVES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EpisodeflowError) and kind not in {EpisodeflowError, Retryable, Rejected}
]


def example(kind: type[EpisodeflowError]) -> EpisodeflowError:
    return kind(*{BadConfig: ("file.yaml", "a.b", "is wrong"), BadRaw: ("images/x.jpg", "is empty")}.get(kind, ("a sentence",)))


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_is_either_retryable_or_rejected(kind: type[EpisodeflowError]) -> None:
    assert issubclass(kind, Retryable) != issubclass(kind, Rejected)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_survives_pickling_with_type_text_and_fields(kind: type[EpisodeflowError]) -> None:
    error = example(kind)
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_stands_in_the_drawn_tree(kind: type[EpisodeflowError]) -> None:
    assert errors.__doc__ is not None
    assert f"── {kind.__name__}" in errors.__doc__


def test_an_error_of_the_whole_file_names_no_key() -> None:
    assert str(BadConfig("file.yaml", "", "is no YAML")) == "file.yaml: is no YAML"
    assert str(BadConfig("file.yaml", "a.b", "is 7")) == "file.yaml: a.b: is 7"
    assert str(BadRaw("images/x.jpg", "is empty")) == "images/x.jpg: is empty"
