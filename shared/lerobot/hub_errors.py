"""What huggingface_hub can raise, as errors of ours: trying again may help, or somebody must act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.errors import HTTPError as ClientError  # of its HTTP client, whichever that is

from shared.errors import BadConfig, EpisodeflowError, Refused, StoreUnavailable

_LOGIN = "log in with `hf auth login`, or export HF_TOKEN with a token that may write (https://huggingface.co/settings/tokens)"
_TRANSIENT = {408, 409, 412, 425, 429}
"""Beside 5xx: too slow, too many, or somebody else changed the repository in between."""


@contextmanager
def translated(place: str, what: str) -> Iterator[None]:
    """Turn what huggingface_hub raises inside the block into an error of ours.

    Args:
        place: repository and endpoint, for the sentence.
        what: what was being done, as in ``create the repository``.

    Raises:
        StoreUnavailable: no answer, a cut connection, 5xx, too many requests, or another change at the same time.
        Refused: no token or a wrong one, no permission, no such repository, offline mode, or any other 4xx.
        BadConfig: a name that the Hub does not allow.
    """
    try:
        yield
    except (HfHubHTTPError, ClientError, OSError, RuntimeError, ValueError) as error:
        found = _error_of(error, f"{place}: {what}")
        if found is None:
            raise
        raise found from error


def _error_of(error: BaseException, said: str) -> EpisodeflowError | None:
    """Return the error of ours; None for a programmer's mistake."""
    found: EpisodeflowError | None = None
    if isinstance(error, HfHubHTTPError):
        found = _answer(error, said)
    elif isinstance(error, OfflineModeIsEnabled):
        found = Refused(f"{said}: HF_HUB_OFFLINE is set, which forbids every request: unset it, or do not push")
    elif isinstance(error, LocalTokenNotFoundError):
        found = Refused(f"{said}: no token: {_LOGIN}")
    elif isinstance(error, HFValidationError):
        found = BadConfig("repo_id", "", f"{_first_line(error)}; expected user/name")
    elif isinstance(error, ClientError | JSONDecodeError | ConnectionError | TimeoutError):
        found = StoreUnavailable(f"{said}: {_first_line(error)}: is the network up, and HF_ENDPOINT (if set) right?")
    elif isinstance(error, RuntimeError) and error.__cause__ is not None:
        found = _error_of(error.__cause__, said)  # how a failed upload of one file is reported
    elif isinstance(error, RuntimeError | PermissionError):
        found = StoreUnavailable(f"{said}: {_first_line(error)}: if it stays so, try without Xet storage: export HF_HUB_DISABLE_XET=1")
    elif isinstance(error, ValueError | OSError):
        found = Refused(f"{said}: {_first_line(error)}")
    return found


def _answer(error: HfHubHTTPError, said: str) -> EpisodeflowError:
    status = error.response.status_code
    told = f"{said}: {status}"
    message = f" ({error.server_message})" if error.server_message else ""
    if status >= 500 or status in _TRANSIENT:
        return StoreUnavailable(f"{told}{message}: the Hub cannot take it now")
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return Refused(f"{told}{message}: not there, or this token may not see it: check the repository's name and whose token it is")
    if status == 401:
        return Refused(f"{told}{message}: the token is not valid: {_LOGIN}")
    if status == 403:
        return Refused(f"{told}{message}: this token may not do that: {_LOGIN}, and push to your own or your organization's name")
    return Refused(f"{told}{message or f': {_first_line(error)}'}")


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
