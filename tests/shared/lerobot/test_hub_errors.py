"""What huggingface_hub raises, as errors of ours."""

from __future__ import annotations

import json

import pytest
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from shared.errors import BadConfig, EpisodeflowError, Refused, StoreUnavailable
from shared.lerobot.hub_errors import translated
from shared.lerobot.hub_repository import Repository


def nested() -> RuntimeError:
    error = RuntimeError("Error while uploading 'x' to the Hub.")
    error.__cause__ = ConnectionResetError("cut")
    return error


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OfflineModeIsEnabled("no"), Refused, "HF_HUB_OFFLINE is set"),
        (LocalTokenNotFoundError("no"), Refused, "no token: log in with `hf auth login`"),
        (HFValidationError("bad name"), BadConfig, "bad name; expected user/name"),
        (json.JSONDecodeError("no JSON", "<html>", 0), StoreUnavailable, "no JSON"),
        (TimeoutError(), StoreUnavailable, "TimeoutError: is the network up"),
        (nested(), StoreUnavailable, "cut: is the network up"),
        (
            RuntimeError("CAS away\nmore"),
            StoreUnavailable,
            "CAS away: if it stays so, try without Xet storage: export HF_HUB_DISABLE_XET=1",
        ),
        (ValueError("Invalid metadata in README.md."), Refused, "Invalid metadata"),
    ],
)
def test_error_becomes_one_of_ours_with_the_place(error: Exception, kind: type[EpisodeflowError], sentence: str) -> None:
    with pytest.raises(kind) as found, translated("user/cubes at http://hub", "list the files"):
        raise error

    assert sentence in str(found.value)
    assert kind is BadConfig or str(found.value).startswith("user/cubes at http://hub: list the files: ")


def test_mistake_of_a_programmer_stays_what_it_is() -> None:
    with pytest.raises(KeyError), translated("user/cubes", "list the files"):
        raise KeyError("name")


def test_server_that_is_not_there_is_unavailable(unused_tcp_port: int) -> None:
    repository = Repository("user/cubes", endpoint=f"http://127.0.0.1:{unused_tcp_port}", token="hf_x")

    with pytest.raises(StoreUnavailable, match=r"who am I: .*is the network up, and HF_ENDPOINT"):
        repository.check_writable(is_private=False)
