"""The doctor's look at this host: files, credentials, folders, encoders, clock, versions. Asks no server."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cli.finding import Finding, fail, ok, warn
from shared.config import StorageConfig, VideoConfig, spool_folder, temp_folder
from shared.entry import Loaded
from shared.errors import BadConfig

_EARLIEST_S = 1_735_689_600
"""2025-01-01: a clock before that was never set."""

_FEW_BYTES = 5 * 1024**3
_PRESET_BY_CODEC = {"av1": "8"}
_PACKAGES = ("episodeflow", "numpy", "pyarrow", "av", "opencv-python-headless", "nats-py", "redis", "aiobotocore")


def configuration_findings(configuration: Loaded) -> Iterator[Finding]:
    """Say which files were read, and what in them no longer means anything."""
    yield ok("storage file", str(configuration.path))
    yield ok("strategy file", f"{configuration.template_path} ({configuration.strategy.alignment.strategy})")
    for notice in configuration.notices:
        yield warn("storage file", notice, "remove the key")
    try:
        places = configuration.places()
    except BadConfig as error:
        yield fail("places", str(error), "correct the storage file")
        return
    yield ok("sources", ", ".join(places.sources))


def credential_findings(storage: StorageConfig) -> Iterator[Finding]:
    """Say which credentials are missing."""
    has_s3 = (storage.store or "").startswith("s3://") or (storage.store is None and storage.bos.bucket is not None)
    wanted = {
        "NATS_USER": (storage.nats.user, "the server will only let you in if it asks nobody who they are"),
        "NATS_PASSWORD": (storage.nats.password, "the server will only let you in if it asks nobody who they are"),
        "REDIS_PASSWORD": (storage.redis.password, "Redis will only let you in if it has no password"),
        **({"BOS_ACCESS_KEY": (storage.bos.access_key, ""), "BOS_SECRET_KEY": (storage.bos.secret_key, "")} if has_s3 else {}),
    }
    missing = [name for name, (value, _) in wanted.items() if not value]
    for name in missing:
        consequence = wanted[name][1]
        found = f"{name} is not set" + (f": {consequence}" if consequence else "")
        if consequence:
            yield warn("credentials", found, f"export {name}, or run without if that is meant")
        else:
            yield fail("credentials", found, f"export {name}")
    if not missing:
        yield ok("credentials", ", ".join(wanted))


def folder_findings(storage: StorageConfig) -> Iterator[Finding]:
    """Say whether the working folders can be written and have room."""
    system_temp, here = Path(tempfile.gettempdir()), Path.cwd()
    folders = {"temp folder": temp_folder(storage, system_temp=system_temp), "spool": spool_folder(storage, system_temp=system_temp)}
    for check, folder in folders.items():
        yield _folder_finding(check, here / folder)


def _folder_finding(check: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return fail(
            check,
            f"{folder} cannot be written by this user ({there}: {error.strerror})",
            f"give this user {there}, or configure another folder",
        )
    free_bytes = shutil.disk_usage(there).free
    found = f"{folder}: {free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < _FEW_BYTES:
        return warn(check, found, "make room: a full disk stops conversions until there is some")
    return ok(check, found)


def encoder_findings(video: VideoConfig) -> Iterator[Finding]:
    """Open every encoder for a tiny video; only the configured one has to open."""
    try:
        from services.converter.video import ENCODER_BY_CODEC, VideoWriter  # noqa: PLC0415 - a host may have no converter
    except ImportError as error:
        yield warn("encoders", f"not installed here ({error})", "needed where converters run: pip install 'episodeflow[converter]'")
        return
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise
    for codec, encoder in ENCODER_BY_CODEC.items():
        tried = video if codec == video.codec else VideoConfig(codec=codec, preset=_PRESET_BY_CODEC.get(codec, "medium"))  # type: ignore[arg-type]
        try:
            with (
                tempfile.TemporaryDirectory() as folder,
                VideoWriter(Path(folder) / "try.mp4", width_px=64, height_px=64, fps=30, config=tried),
            ):
                pass
        except (BadConfig, ValueError, OSError) as error:
            remedy = "video.codec names it: correct video.preset and video.crf, or choose another codec"
            yield (
                fail("encoder", f"{codec} ({encoder}): {error}", remedy)
                if codec == video.codec
                else warn("encoder", f"{codec} ({encoder}): {error}", "not needed unless video.codec names it")
            )
        else:
            yield ok("encoder", f"{codec} ({encoder})")


def clock_findings(now_s: float | None = None) -> Iterator[Finding]:
    """Say whether this host's clock was ever set."""
    now_s = time.time() if now_s is None else now_s
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < _EARLIEST_S:
        yield fail("clock", f"it is {shown} here", "set the clock (NTP): recordings and events carry its time")
    else:
        yield ok("clock", shown)


def version_findings() -> Iterator[Finding]:
    """Say what is installed."""
    yield ok("versions", f"Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
