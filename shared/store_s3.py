"""A store in a bucket: the one door to aiobotocore.

Theory of operation: Baidu BOS and older servers speak only the plain S3 of signature version 4, so nothing newer is
used: no trailing checksums (``when_required``), no conditional writes, no batch delete (it demands a checksum).
Integrity rests on what every server has: sizes always, and MD5, sent as Content-MD5 with each body and compared with
the ETag where that is a plain MD5. A file above ``PART_BYTES`` is sent in parts and is invisible until the last
call; on any failure the parts are thrown away, and those of a killed process when the same key is sent again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from shared import store_file
from shared.config import BosConfig
from shared.errors import BadConfig, Refused, Retryable, StoreUnavailable
from shared.store_object import TEMPORARY_PREFIX, ObjectInfo, Patience, checked_key, checked_prefix
from shared.store_s3_errors import Place, code_of, translated
from shared.store_uri import Endpoint, endpoint_of

PART_BYTES = 8 * 1024 * 1024
"""Satisfies every server's smallest part; a file of at most this size is sent in one request."""

_MAX_PARTS = 9_000
_PARTS_IN_FLIGHT = 3
_DELETES_IN_FLIGHT = 16
_CHUNK_BYTES = 256 * 1024
_PLAIN_MD5 = re.compile(r"^[0-9a-f]{32}\Z")


class S3Store:
    """Objects of a bucket below a prefix; made by ``open``."""

    def __init__(self, *, client: Any, closing: AsyncExitStack, place: Place, prefix: str, notices: tuple[str, ...]) -> None:
        self._client = client
        self._closing = closing
        self._place = place
        self._bucket = place.bucket
        self._prefix = prefix
        self._notices = notices

    @classmethod
    async def open(cls, *, bucket: str, prefix: str, bos: BosConfig, patience: Patience | None = None) -> S3Store:
        """Return a store; nothing is asked of the server yet.

        Args:
            bucket: its name.
            prefix: put before every key, empty or with a slash at its end.
            bos: endpoint, region, credentials, addressing style.
            patience: time limits; None means the ones for production.

        Raises:
            BadConfig: a bad endpoint or no credentials.
        """
        endpoint = endpoint_of(bos)
        if not bos.access_key or not bos.secret_key:
            raise BadConfig("storage", "bos.access_key", "the store needs credentials: export BOS_ACCESS_KEY and BOS_SECRET_KEY")
        closing = AsyncExitStack()
        client = get_session().create_client(
            "s3",
            endpoint_url=endpoint.url,
            region_name=endpoint.region,
            aws_access_key_id=bos.access_key.reveal(),
            aws_secret_access_key=bos.secret_key.reveal(),
            config=_client_config(endpoint, patience or Patience()),
        )
        opened = await closing.enter_async_context(client)
        key_id = bos.access_key.reveal()
        place = Place(bucket, endpoint.url or f"AWS {endpoint.region}", f"{key_id[:4]}…" if len(key_id) > 8 else "…")
        return cls(client=opened, closing=closing, place=place, prefix=prefix, notices=endpoint.notices)

    @property
    def uri(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @property
    def notices(self) -> tuple[str, ...]:
        """That a native BOS endpoint was replaced, if it was."""
        return self._notices

    def local_path(self, key: str) -> None:
        """Return None: nothing of a bucket lies on this host."""
        del key

    async def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield objects in key order, 1,000 per request."""
        full_prefix = self._prefix + checked_prefix(prefix)
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": full_prefix}
        if start_after:
            request["StartAfter"] = self._prefix + start_after
        while True:
            with translated(self._place, f"list {full_prefix}"):
                page = await self._client.list_objects_v2(**request)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                # A key with a slash at its end is a folder that some console painted: no file of an episode.
                if key and not key.endswith("/"):
                    yield _object_info(key, entry["Size"], entry["LastModified"], entry.get("ETag"))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's entry, or None."""
        with translated(self._place, f"head {key}"):
            try:
                answer = await self._client.head_object(**self._named(key))
            except ClientError as error:
                if code_of(error)[1] == 404:
                    return None
                raise
        return _object_info(key, answer["ContentLength"], answer["LastModified"], answer.get("ETag"))

    async def get(self, key: str, path: Path) -> ObjectInfo:
        """Write the object to ``path``: streamed under a temporary name, checked, renamed."""
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
        try:
            with store_file.translated(str(path)):
                await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
                opened = await asyncio.to_thread(temporary.open, "xb")
            with opened:
                info = await self._receive(key, opened)
            with store_file.translated(str(path)):
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return info

    async def get_bytes(self, key: str) -> bytes:
        """Return the object's content."""
        with translated(self._place, f"get {key}"):
            answer = await self._client.get_object(**self._named(key))
            async with answer["Body"] as stream:
                body: bytes = await stream.read()
        self._check_arrived(key, answer, num_bytes=len(body), md5=hashlib.md5(body, usedforsecurity=False).hexdigest())
        return body

    async def put(self, path: Path, key: str) -> None:
        """Send a file, in parts if it is large, and check the size that arrived."""
        with store_file.translated(str(path)):
            size_bytes = (await asyncio.to_thread(path.stat)).st_size
            opened = await asyncio.to_thread(path.open, "rb")
        with opened:
            if size_bytes > PART_BYTES:
                await self._put_parts(opened, key, size_bytes)
            else:
                await self.put_bytes(await asyncio.to_thread(opened.read), key)

    async def put_bytes(self, body: bytes, key: str) -> None:
        """Write a small object."""
        md5 = hashlib.md5(body, usedforsecurity=False)
        with translated(self._place, f"put {key}"):
            answer = await self._client.put_object(**self._named(key), Body=body, ContentMD5=_base64(md5.digest()))
        self._check_etag(key, answer, md5.hexdigest())

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects one by one, several at once: a batch delete needs checksums that BOS does not know."""
        await _each([self._delete_one(key) for key in keys], at_once=_DELETES_IN_FLIGHT)

    async def delete_prefix(self, prefix: str) -> int:
        """Remove everything that begins with ``prefix``."""
        keys = [info.key async for info in self.list(prefix)]
        await self.delete(keys)
        return len(keys)

    async def clock_s(self) -> float:
        """Return the time in the server's answer about the bucket."""
        with translated(self._place, "look at the bucket"):
            try:
                answer = await self._client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if code_of(error)[1] == 404:
                    raise Refused(f"{self._place}: there is no such bucket: create it, or correct bos.bucket or the URI") from error
                raise
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"]).timestamp()

    async def close(self) -> None:
        """Close the connections."""
        await self._closing.aclose()

    def _named(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    async def _delete_one(self, key: str) -> None:
        with translated(self._place, f"delete {key}"):
            await self._client.delete_object(**self._named(key))

    async def _receive(self, key: str, target: BinaryIO) -> ObjectInfo:
        md5 = hashlib.md5(usedforsecurity=False)
        num_bytes = 0
        with store_file.translated(target.name), translated(self._place, f"get {key}"):
            answer = await self._client.get_object(**self._named(key))
            async with answer["Body"] as stream:
                while chunk := await stream.read(_CHUNK_BYTES):
                    md5.update(chunk)
                    num_bytes += len(chunk)
                    await asyncio.to_thread(target.write, chunk)
            await asyncio.to_thread(_sync, target)
        self._check_arrived(key, answer, num_bytes=num_bytes, md5=md5.hexdigest())
        return _object_info(key, num_bytes, answer["LastModified"], answer.get("ETag"))

    async def _put_parts(self, opened: BinaryIO, key: str, size_bytes: int) -> None:
        with translated(self._place, f"begin parts of {key}"):
            upload = (await self._client.create_multipart_upload(**self._named(key)))["UploadId"]
        try:
            etags = await self._send_parts(opened, key=key, upload=upload, size_bytes=size_bytes)
            parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
            with translated(self._place, f"complete {key}"):
                await self._client.complete_multipart_upload(**self._named(key), UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            await asyncio.shield(self._abort(key, upload))
            raise
        await self._abort_others(key)
        info = await self.head(key)
        if info is None or info.size_bytes != size_bytes:
            found = "nothing" if info is None else f"{info.size_bytes} bytes"
            raise StoreUnavailable(f"{self._place}: put {key}: sent {size_bytes} bytes, the store has {found}: it is sent again")

    async def _send_parts(self, opened: BinaryIO, *, key: str, upload: str, size_bytes: int) -> tuple[str, ...]:
        part_bytes = max(PART_BYTES, -(-size_bytes // _MAX_PARTS))
        num_parts = -(-size_bytes // part_bytes)

        async def send(index: int) -> str:
            body, md5 = await asyncio.to_thread(
                _read_part, opened.fileno(), index * part_bytes, min(part_bytes, size_bytes - index * part_bytes)
            )
            with translated(self._place, f"put part {index + 1} of {num_parts} of {key}"):
                answer = await self._client.upload_part(
                    **self._named(key), UploadId=upload, PartNumber=index + 1, Body=body, ContentMD5=_base64(md5)
                )
            self._check_etag(key, answer, md5.hex())
            return str(answer["ETag"])

        return tuple(await _each([send(index) for index in range(num_parts)], at_once=_PARTS_IN_FLIGHT))

    async def _abort(self, key: str, upload: str) -> None:
        """Throw the parts away; a server that is gone keeps them invisible, so only the space is lost."""
        try:
            with translated(self._place, f"abort {key}"):
                await self._client.abort_multipart_upload(**self._named(key), UploadId=upload)
        except (Retryable, Refused):
            return  # the failure that led here is the one to report

    async def _abort_others(self, key: str) -> None:
        """Throw away the parts that a process that was killed has sent for the same key.

        One that lives and sends the same key, too, starts anew: the object is complete, so its next look finds it so.
        """
        try:
            with translated(self._place, f"list parts of {key}"):
                found = await self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix + key)
        except (Retryable, Refused):
            return  # a server without this call, or without the permission: only room is lost
        for upload in found.get("Uploads", ()):
            if upload["Key"] == self._prefix + key:
                await self._abort(key, upload["UploadId"])

    def _check_etag(self, key: str, answer: dict[str, Any], md5: str) -> None:
        etag = _plain_md5(answer)
        if etag is not None and etag != md5:
            raise StoreUnavailable(f"{self._place}: {key}: the store has MD5 {etag}, expected {md5}: it is transferred again")

    def _check_arrived(self, key: str, answer: dict[str, Any], *, num_bytes: int, md5: str) -> None:
        if num_bytes != answer["ContentLength"]:
            raise StoreUnavailable(f"{self._place}: get {key}: {num_bytes} of {answer['ContentLength']} bytes arrived: it is fetched again")
        self._check_etag(key, answer, md5)


def _client_config(endpoint: Endpoint, patience: Patience) -> AioConfig:
    return AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": endpoint.style, "payload_signing_enabled": True},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard", "max_attempts": patience.max_attempts},
        connect_timeout=patience.connect_timeout_s,
        read_timeout=patience.read_timeout_s,
        max_pool_connections=64,
        tcp_keepalive=True,
    )


def _plain_md5(answer: dict[str, Any]) -> str | None:
    """Return the ETag where it is the MD5 of the content: not of many parts, not of something encrypted with a foreign key."""
    if answer.get("ServerSideEncryption", "AES256") != "AES256" or answer.get("SSECustomerAlgorithm"):
        return None
    etag = str(answer.get("ETag", "")).strip('"').lower()
    return etag if _PLAIN_MD5.match(etag) else None


def _object_info(key: str, size_bytes: int, modified: datetime, etag: str | None) -> ObjectInfo:
    return ObjectInfo(key=key, size_bytes=size_bytes, modified_s=modified.timestamp(), etag=etag.strip('"') if etag else None)


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _read_part(descriptor: int, offset: int, num_bytes: int) -> tuple[bytes, bytes]:
    """Return the bytes at ``offset`` and their MD5; several threads may read one file this way."""
    body = bytearray()
    while len(body) < num_bytes:
        chunk = os.pread(descriptor, num_bytes - len(body), offset + len(body))
        if not chunk:
            raise StoreUnavailable(
                f"the file shrank while it was sent: {offset + len(body)} bytes of at least {offset + num_bytes} are left"
            )
        body += chunk
    return bytes(body), hashlib.md5(body, usedforsecurity=False).digest()


def _sync(target: BinaryIO) -> None:
    target.flush()
    os.fsync(target.fileno())


async def _each(calls: list[Any], *, at_once: int) -> list[Any]:
    """Return the results of the calls in order; the first failure cancels the others and is raised itself."""
    slots = asyncio.Semaphore(at_once)

    async def bounded(call: Any) -> Any:
        async with slots:
            return await call

    tasks = [asyncio.ensure_future(bounded(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for call in calls:
            call.close()
        raise
