"""What the S3 client can say, as errors of ours: trying again may help, or somebody must act."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import aiohttp
import msgspec
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError, PartialCredentialsError

from shared.errors import Refused, StoreUnavailable

_CREDENTIAL_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired"}
_TRANSIENT_CODES = {
    *("SlowDown", "RequestTimeout", "Throttling", "TooManyRequests", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"),
    *("OperationAborted", "ServiceUnavailable", "InternalError", "NoSuchUpload"),
}


class Place(msgspec.Struct, frozen=True):
    """What an error sentence names.

    Attributes:
        bucket: the bucket.
        endpoint: the server's address.
        access_key: the key's id (not the secret), shortened.
    """

    bucket: str
    endpoint: str
    access_key: str

    def __str__(self) -> str:
        return f"bucket {self.bucket} at {self.endpoint}"


@contextmanager
def translated(place: Place, what: str) -> Iterator[None]:
    """Turn what the S3 client raises inside the block into an error of ours.

    Args:
        place: bucket and endpoint, for the sentence.
        what: what was being done, as in ``get raw_datas/a.jpg``.

    Raises:
        StoreUnavailable: no answer, a cut connection, 5xx, throttling, or content that did not arrive whole.
        Refused: credentials, permissions, a missing bucket or object, or any other 4xx.
    """
    try:
        yield
    except ClientError as error:
        _raise_answer(place, what, error)
    except ParamValidationError as error:
        raise Refused(f"{place}: {what}: {error}") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise Refused(f"{place}: {what}: no credentials: export BOS_ACCESS_KEY and BOS_SECRET_KEY") from error
    except (BotoCoreError, aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise StoreUnavailable(f"{place}: {what}: {error or type(error).__name__}: is the endpoint right and the server up?") from error


def code_of(error: ClientError) -> tuple[str, int]:
    """Return the S3 error code and the HTTP status of an answer."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return str(error.response.get("Error", {}).get("Code", "")), int(status)


def _raise_answer(place: Place, what: str, error: ClientError) -> NoReturn:
    code, status = code_of(error)
    said = f"{place}: {what}: {status} {code}"
    if status >= 500 or status == 429 or code in _TRANSIENT_CODES:
        raise StoreUnavailable(f"{said}: the store cannot answer now") from error
    if code == "NoSuchBucket":
        raise Refused(f"{said}: there is no such bucket: create it, or correct bos.bucket or the URI") from error
    if code == "RequestTimeTooSkewed":
        raise Refused(f"{said}: this host's clock is wrong: set the time (NTP)") from error
    if code in _CREDENTIAL_CODES or status in {401, 403}:
        raise Refused(
            f"{said}: access refused with the access key {place.access_key}: check BOS_ACCESS_KEY and BOS_SECRET_KEY, "
            f"the key's permissions on bucket {place.bucket}, and that bos.endpoint {place.endpoint} belongs to it"
        ) from error
    if status in {301, 307}:
        raise Refused(f"{said}: the bucket is in another region: correct bos.endpoint and bos.region") from error
    if status == 404:
        raise Refused(f"{said}: there is no such object") from error
    raise Refused(f"{said}: {error.response.get('Error', {}).get('Message', '')}") from error
