"""The storage file of an embedded stack, from the user's own one. Pure but for finding the strategy file.

Bus and ledger become the embedded servers, everything else stays as the user wrote it (with its ``${NAME}``). What the
user left open gets a place in the stack's folder: store, spool, work.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cli.state import StateFolder
from shared.config import StorageConfig, load_storage
from shared.entry import find_template
from shared.errors import BadConfig
from shared.places import lerobot_home
from shared.settings import merged
from shared.store_uri import parse_uri

_CHECKOUT = Path(__file__).resolve().parent.parent
_DEFAULT_TEMPLATE = "config/strategies/nearest.yaml"
_OF_SERVERS = {"servers", "user", "password", "inbox_prefix", "tls"}
_KEPT_OF_REDIS = {"max_workers"}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants to run.

    Attributes:
        config: the user's storage file; None for defaults.
        store: URI in place of the file's store.
        converters: how many converter processes.
        template: strategy file in place of the storage file's.
        niceness: how far the services stand back for others on the processors, as `nice` counts.
    """

    config: Path | None = None
    store: str | None = None
    converters: int = 1
    template: Path | None = None
    niceness: int = 0


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """The user's storage file: its document as written, what it means, and notices about it."""

    document: dict[str, Any]
    storage: StorageConfig
    template: Path
    notices: tuple[str, ...] = ()


def basis(wish: Wish, environ: Mapping[str, str]) -> Basis:
    """Return what the user's file says, or the defaults without one.

    Raises:
        BadConfig: the file, the store's URI or the strategy file is wrong or missing.
    """
    if wish.store is not None:
        _check_store(wish.store)
    if wish.config is None:
        template = wish.template or find_template(_DEFAULT_TEMPLATE, _CHECKOUT / "config" / "storage.yaml")
        return Basis(document={}, storage=StorageConfig(), template=template)
    storage, notices = load_storage(wish.config, environ)
    document = msgspec.yaml.decode(wish.config.read_bytes()) or {}
    template = wish.template or find_template(storage.conversion.config_template, wish.config)
    if storage.logging.file:
        notices.append(f"{wish.config}: logging.file is not used by `up`: each process has its own file in the folder logs")
    if storage.metrics.port:
        notices.append(f"{wish.config}: metrics.port is not used by `up`: its processes on one host cannot share a port")
    return Basis(document=document, storage=storage, template=template, notices=tuple(notices))


def storage_document(
    found: Basis, wish: Wish, state: StateFolder, *, nats_url: str, redis_port: int, datasets_root: Path
) -> dict[str, Any]:
    """Return the storage file of the services.

    Args:
        found: from ``basis``.
        wish: what the user wants.
        state: folder of the stack.
        nats_url: the embedded bus; its credentials come from the environment.
        redis_port: the embedded ledger, on loopback.
        datasets_root: where growing datasets go if they go into folders and the user's file does not say where. Written down,
            it is the same for everybody who uses this stack, whatever their environment.
    """
    storage = found.storage
    sections = {name: found.document.get(name) or {} for name in ("nats", "redis", "logging", "metrics")}
    document = {key: value for key, value in found.document.items() if value is not None}
    document["nats"] = {key: value for key, value in sections["nats"].items() if key not in _OF_SERVERS} | {"servers": [nats_url]}
    document["redis"] = {key: value for key, value in sections["redis"].items() if key in _KEPT_OF_REDIS}
    document["redis"] |= {"host": "127.0.0.1", "port": redis_port}
    document["metrics"] = {key: value for key, value in sections["metrics"].items() if key != "port"} | {"port": 0}
    document["logging"] = {key: value for key, value in sections["logging"].items() if key != "file"}
    chosen: dict[str, Any] = {"conversion": {"config_template": str(found.template)}}
    if wish.store is not None:
        document["store"] = wish.store
    elif storage.store is None and not storage.bos.bucket:
        document["store"] = (state.path / "store").as_uri()
    if storage.datasets.root is None and str(document.get("store") or storage.store or "s3").startswith("file"):
        chosen["datasets"] = {"root": str(datasets_root)}
    if storage.conversion.spool.path is None:
        chosen["conversion"]["spool"] = {"path": str(state.path / "spool")}
    if storage.bos.download.temp_dir is None:
        chosen["bos"] = {"download": {"temp_dir": str(state.path / "work")}}
    return merged(document, chosen)


def datasets_root(environ: Mapping[str, str]) -> Path:
    """Return the folder in which LeRobot looks for datasets in this environment."""
    return Path(lerobot_home(environ)).expanduser().absolute()


def _check_store(uri: str) -> None:
    try:
        parse_uri(uri)
    except ValueError as error:
        raise BadConfig("--store", "", str(error)) from error
