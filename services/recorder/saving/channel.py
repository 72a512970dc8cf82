"""What goes over the pipes between the recorder and its saver: a length, MessagePack, and the samples as plain bytes."""

from __future__ import annotations

import asyncio
import os
import struct

import msgspec

from services.recorder.saving.episode import ArmSamples, FinishedEpisode, SaveRequest, sample_bytes
from services.recorder.saving.news import FromSaver

_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 256 * 1024
_encoder = msgspec.msgpack.Encoder()
_news_decoder = msgspec.msgpack.Decoder(FromSaver)
_request_decoder = msgspec.msgpack.Decoder(SaveRequest)


async def send_request(writer: asyncio.StreamWriter, request: SaveRequest, arms: tuple[ArmSamples, ...]) -> None:
    """Send an episode piece by piece, so that the caller's loop is never held up.

    Raises:
        ConnectionError: nobody reads.
    """
    writer.write(_framed(request))
    for arm in arms:
        for samples in sample_bytes(arm):
            for start in range(0, len(samples), _CHUNK_BYTES):
                writer.write(samples[start : start + _CHUNK_BYTES])
                await writer.drain()
    await writer.drain()


async def receive_request(reader: asyncio.StreamReader) -> tuple[FinishedEpisode, str] | None:
    """Return the next episode and its nonce; None at the end, also where it is cut off in the middle."""
    try:
        request = _request_decoder.decode(await _frame(reader))
        samples = [await reader.readexactly(shape.num_bytes) for shape in request.arms]
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return request.finished(samples), request.nonce


def send_news(descriptor: int, news: FromSaver) -> None:
    """Write news to a pipe; it is in the reader's hands even if this process dies right after.

    Raises:
        BrokenPipeError: nobody reads.
    """
    body = memoryview(_framed(news))
    while body:
        body = body[os.write(descriptor, body) :]


async def receive_news(reader: asyncio.StreamReader) -> FromSaver | None:
    """Return the next news; None at the end."""
    try:
        news: FromSaver = _news_decoder.decode(await _frame(reader))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return news


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return await reader.readexactly(length)


def _framed(message: SaveRequest | FromSaver) -> bytes:
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body
