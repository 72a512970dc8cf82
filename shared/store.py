"""Opening a store by its URI, and keeping one open store per root.

``open_store("file:///data", bos)`` and ``open_store("s3://bucket/prefix", bos)`` give the same interface
(``shared.store_object.Store``); what differs between them stands in ``store_file`` and ``store_s3``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType

from shared.config import BosConfig
from shared.errors import BadConfig
from shared.store_file import FileStore
from shared.store_object import ObjectInfo, Patience, Store
from shared.store_uri import parse_uri

__all__ = ["ObjectInfo", "Patience", "Store", "StorePool", "open_store"]


async def open_store(uri: str, bos: BosConfig, *, patience: Patience | None = None) -> Store:
    """Return the store at ``uri``; the caller closes it. Nothing is asked of a server yet.

    Args:
        uri: ``file:///folder`` or ``s3://bucket[/prefix]``.
        bos: endpoint and credentials for ``s3://``.
        patience: time limits of one request to ``s3://``; None: those of a service.

    Raises:
        BadConfig: the URI, the endpoint or the credentials are not usable.
    """
    try:
        parsed = parse_uri(uri)
    except ValueError as error:
        raise BadConfig("storage", "store", str(error)) from error
    if parsed.scheme == "file":
        return FileStore(Path(parsed.root))
    from shared.store_s3 import S3Store  # noqa: PLC0415 - a host with folders only does not need the S3 client installed

    return await S3Store.open(bucket=parsed.root, prefix=parsed.prefix, bos=bos, patience=patience)


class StorePool:
    """Open stores by root URI: many episodes share one client and its connections.

    Args:
        bos: endpoint and credentials for ``s3://``.
        patience: see ``open_store``.
    """

    def __init__(self, bos: BosConfig, *, patience: Patience | None = None) -> None:
        self._patience = patience
        self._bos = bos
        self._stores: dict[str, Store] = {}
        self._opening = asyncio.Lock()

    async def at(self, root: str) -> Store:
        """Return the store at ``root``, opened once.

        Raises:
            BadConfig: see ``open_store``.
        """
        async with self._opening:
            if root not in self._stores:
                self._stores[root] = await open_store(root, self._bos, patience=self._patience)
            return self._stores[root]

    async def close(self) -> None:
        """Close every store that was opened."""
        while self._stores:
            _, store = self._stores.popitem()
            await store.close()

    async def __aenter__(self) -> StorePool:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
