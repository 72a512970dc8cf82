"""Addresses of stores: ``file:///folder`` and ``s3://bucket/prefix``, and the endpoint behind ``s3://``. Pure.

Baidu's ``https://{region}.bcebos.com`` is the native API, which answers S3 requests with MissingDateHeader;
the S3 API of the same region is ``s3.{region}.bcebos.com``, so that one is used in its place and a notice says so.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import msgspec

from shared.config import BosConfig
from shared.errors import BadConfig

_BUCKET = re.compile(r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]\Z")
_NATIVE_BOS = re.compile(r"^([a-z0-9-]+)\.bcebos\.com\Z")
_S3_BOS = re.compile(r"^s3\.([a-z0-9-]+)\.bcebos\.com\Z")
_DEFAULT_REGION = "us-east-1"


class StoreUri(msgspec.Struct, frozen=True):
    """A folder or a prefix of a bucket.

    Attributes:
        scheme: ``file`` or ``s3``.
        root: the absolute folder, or the bucket.
        prefix: below the bucket, empty or with a slash at its end; always empty for ``file``.
    """

    scheme: Literal["file", "s3"]
    root: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"file://{quote(self.root)}" if self.scheme == "file" else f"s3://{self.root}/{self.prefix}".rstrip("/")


class Endpoint(msgspec.Struct, frozen=True):
    """How a bucket is reached.

    Attributes:
        url: None means the one of AWS for the region.
        region: part of every signature.
        style: where the bucket's name stands, in the host or in the path.
        notices: what was corrected, as sentences.
    """

    url: str | None
    region: str
    style: Literal["virtual", "path"]
    notices: tuple[str, ...] = ()


def parse_uri(uri: str) -> StoreUri:
    """Return the parts of a store's URI.

    Raises:
        ValueError: neither ``file:///folder`` nor ``s3://bucket[/prefix]``, a relative folder, ``..``, or no bucket name.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ValueError(f"{uri!r} is not a URI: {error}") from error
    if parts.scheme == "file":
        return _file_uri(uri, parts.netloc, unquote(uri.removeprefix(f"{uri[:4]}://{parts.netloc}")))
    if parts.scheme == "s3":
        return _s3_uri(uri)
    raise ValueError(f"{uri!r} is no store: expected file:///absolute/folder or s3://bucket/prefix")


def _file_uri(uri: str, host: str, path: str) -> StoreUri:
    if host not in {"", "localhost"} or not path.startswith("/") or "\0" in path:
        raise ValueError(f"{uri!r} names no folder of this host: expected file:/// and an absolute path, three slashes in all")
    if ".." in path.split("/"):
        raise ValueError(f"{uri!r} contains '..': expected an absolute path without detours")
    return StoreUri("file", str(PurePosixPath("/", *[step for step in path.split("/") if step])))


def _s3_uri(uri: str) -> StoreUri:
    bucket, _, prefix = uri[len("s3://") :].partition("/")
    if not _BUCKET.match(bucket):
        raise ValueError(f"{uri!r} names no bucket: expected s3://bucket/prefix, the bucket with 3 to 63 of a-z 0-9 . _ -")
    steps = prefix.strip("/").split("/") if prefix.strip("/") else []
    if any(step in {"", ".", ".."} for step in steps) or not prefix.isprintable():
        raise ValueError(f"{uri!r} has an empty step, '.' or '..' in its prefix: expected a plain path below the bucket")
    return StoreUri("s3", bucket, "".join(f"{step}/" for step in steps))


def endpoint_of(bos: BosConfig) -> Endpoint:
    """Return how the configured store is reached.

    Raises:
        BadConfig: an endpoint that is no address, or a host of BOS that is not its S3 API.
    """
    if bos.endpoint is None:
        return Endpoint(None, bos.region or _DEFAULT_REGION, _style(bos, is_bos=False))
    address = bos.endpoint if "://" in bos.endpoint else f"https://{bos.endpoint}"
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadConfig("storage", "bos.endpoint", f"is no address: {error} (found {bos.endpoint!r})") from error
    if parts.scheme not in {"http", "https"} or not host or parts.path.strip("/") or parts.query:
        raise BadConfig("storage", "bos.endpoint", f"expected https://host[:port] without a path (found {bos.endpoint!r})")
    if not (host == "bcebos.com" or host.endswith(".bcebos.com")):
        return Endpoint(address.rstrip("/"), bos.region or _DEFAULT_REGION, _style(bos, is_bos=False))
    return _bos_endpoint(bos, parts.scheme, host, port)


def _bos_endpoint(bos: BosConfig, scheme: str, host: str, port: int | None) -> Endpoint:
    native, region = _NATIVE_BOS.match(host), _S3_BOS.match(host)
    if not native and not region:
        raise BadConfig(
            "storage", "bos.endpoint", f"expected https://s3.{{region}}.bcebos.com, the bucket in bos.bucket (found {bos.endpoint!r})"
        )
    name = (native or region)[1]  # type: ignore[index]  # one of the two matched
    url = f"{scheme}://s3.{name}.bcebos.com" + (f":{port}" if port else "")
    notice = f"bos.endpoint: {bos.endpoint} is the native API of BOS; its S3 API {url} is used in its place"
    return Endpoint(url, bos.region or name, _style(bos, is_bos=True), (notice,) if native else ())


def _style(bos: BosConfig, *, is_bos: bool) -> Literal["virtual", "path"]:
    if bos.addressing_style == "auto":
        return "virtual" if is_bos else "path"
    return bos.addressing_style
