"""The doctor's look at the servers: NATS, Redis and the stores. Changes nothing, unless a write to the stores is asked for."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from cli.finding import Finding, fail, ok, warn
from shared.bus import Bus
from shared.config import NatsConfig, StorageConfig
from shared.entry import Loaded
from shared.errors import EpisodeflowError, Refused
from shared.ledger import Ledger
from shared.permissions import users
from shared.places import LocalFolders
from shared.provision import Plan, provision_plan
from shared.store import StorePool
from shared.store_uri import parse_uri

_OFF_S, _FAR_OFF_S = 1.0, 60.0
_ANSWER_TIMEOUT_S = 3.0
_PROVISION = "run `episodeflow provision` as a user who may"


class UserInfo(msgspec.Struct, frozen=True):
    """What the server says about the user of a connection; no permissions means that everything is permitted."""

    user: str = ""
    permissions: dict[str, dict[str, Any] | None] | None = None


class _UserAnswer(msgspec.Struct, frozen=True):
    data: UserInfo
    server: dict[str, Any] = {}


async def nats_findings(storage: StorageConfig) -> AsyncIterator[Finding]:
    """Say whether NATS answers, lets us in, and has what ``provision`` makes."""
    try:
        bus = await Bus.connect(
            msgspec.structs.replace(storage.nats, connect_timeout_s=min(5.0, storage.nats.connect_timeout_s)), name="doctor"
        )
    except EpisodeflowError as error:
        yield fail("NATS", str(error), "start the server, or correct nats.servers, NATS_USER and NATS_PASSWORD")
        return
    async with bus:
        yield ok("NATS", f"{bus.connection.addresses} answers{f' {storage.nats.user}' if storage.nats.user else ''}")
        async for finding in _user_findings(bus, storage):
            yield finding
        plan = provision_plan(storage)
        try:
            for finding in [await _clock_finding(bus), await _stream_finding(bus, plan), *await _consumer_findings(bus, plan)]:
                yield finding
        except Refused as error:
            yield warn("stream", f"this user may not look: {error}", "run doctor as the user monitor, operator or admin to see it")
        except EpisodeflowError as error:
            yield fail("stream", str(error), "is JetStream switched on in the server's configuration?")


async def _user_findings(bus: Bus, storage: StorageConfig) -> AsyncIterator[Finding]:
    try:
        answer = msgspec.json.decode(await bus.connection.ask("$SYS.REQ.USER.INFO", b"", timeout_s=_ANSWER_TIMEOUT_S), type=_UserAnswer)
    except Refused:
        yield ok("permissions", f"the user {storage.nats.user} has a limited set, and may not ask which")
        return
    except (EpisodeflowError, msgspec.DecodeError) as error:
        yield warn("permissions", f"the server does not tell: {error}", "not needed; nats-server tells from 2.9 on")
        return
    if "ver" in answer.server:
        yield ok("versions", f"nats-server {answer.server['ver']}")
    roles = permitted_roles(answer.data, storage.nats, provision_plan(storage))
    yield (
        ok("permissions", f"{answer.data.user or 'this user'} may act as {', '.join(roles)}")
        if roles
        else warn(
            "permissions", f"{answer.data.user or 'this user'} has the permissions of no service", "see config/nats, or use another user"
        )
    )


def permitted_roles(info: UserInfo, nats: NatsConfig, plan: Plan) -> list[str]:
    """Return the users of the table of permissions whose publishing this user may do as well."""
    permissions = (info.permissions or {}).get("publish")
    allowed = permissions.get("allow") if permissions else None
    table = users(stream=nats.stream, subject_by_durable={durable.name: durable.subject for durable in plan.durables})
    if not permissions:
        return [user.name for user in table]
    return [
        user.name for user in table if user.publish is not None and all(_is_covered(subject, allowed or []) for subject in user.publish)
    ]


def _is_covered(subject: str, patterns: list[str]) -> bool:
    """Return whether every subject that ``subject`` (itself a pattern) stands for matches one of the patterns."""
    return any(_covers(pattern.split("."), subject.split(".")) for pattern in patterns)


def _covers(pattern: list[str], subject: list[str]) -> bool:
    for index, step in enumerate(pattern):
        if step == ">":
            return len(subject) > index
        if index >= len(subject) or subject[index] == ">" or (step not in {"*", subject[index]}):
            return False
    return len(pattern) == len(subject)


async def _clock_finding(bus: Bus) -> Finding:
    before_s = time.time()
    answer = await bus.api(f"STREAM.INFO.{bus.config.stream}", {}) or {}
    after_s = time.time()
    if "ts" not in answer:
        return warn("clock of NATS", "the server does not tell its time", "compare the clocks by hand")
    off_s = datetime.fromisoformat(answer["ts"]).timestamp() - (before_s + after_s) / 2
    found = f"the server's is {abs(off_s):.3f} s {'ahead' if off_s > 0 else 'behind'}"
    if abs(off_s) > _FAR_OFF_S:
        return fail("clock of NATS", found, "set both clocks (NTP)")
    return warn("clock of NATS", found, "set both clocks (NTP)") if abs(off_s) > _OFF_S else ok("clock of NATS", found)


async def _stream_finding(bus: Bus, plan: Plan) -> Finding:
    info = await bus.stream_info()
    if info is None:
        return fail("stream", f"{plan.stream} is not there", _PROVISION)
    differing = _differing(plan.stream_settings, info.config)
    if differing:
        return warn("stream", f"{plan.stream} differs in {differing}", _PROVISION)
    return ok("stream", f"{plan.stream}: {info.state.messages} events, {info.state.num_bytes / 1e6:.1f} MB")


async def _consumer_findings(bus: Bus, plan: Plan) -> list[Finding]:
    config_by_name = {info.name: info.config for info in await bus.consumer_infos()}
    findings = []
    for durable in plan.durables:
        config = config_by_name.pop(durable.name, None)
        if config is None:
            findings.append(fail("consumer", f"{durable.name} is not there", _PROVISION))
            continue
        differing = _differing({"filter_subject": durable.subject, **plan.consumer_settings}, config)
        findings += [warn("consumer", f"{durable.name} differs in {differing}", _PROVISION)] if differing else []
    findings += [
        warn("consumer", f"{name} is not of this configuration", f"if nobody needs it: nats consumer rm {plan.stream} {name}")
        for name in config_by_name
    ]
    return findings or [ok("consumers", ", ".join(durable.name for durable in plan.durables))]


def _differing(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    keys = [
        key
        for key, value in wanted.items()
        if found.get(key) != value and not (key == "subjects" and set(value) <= set(found.get(key, [])))
    ]
    return ", ".join(f"{key} (found {found.get(key)}, expected {wanted[key]})" for key in keys)


async def redis_findings(storage: StorageConfig) -> AsyncIterator[Finding]:
    """Say whether Redis answers and lets us in."""
    async with Ledger(storage.redis) as ledger:
        try:
            await ledger.ping()
            await ledger.scan_position()
        except EpisodeflowError as error:
            yield fail("Redis", str(error), "start it, or correct redis.host, redis.port and REDIS_PASSWORD; conversion goes on without")
        else:
            yield ok("Redis", f"{storage.redis.host}:{storage.redis.port} answers")


async def store_findings(configuration: Loaded, *, is_written: bool) -> AsyncIterator[Finding]:
    """Say whether every place of raw episodes and datasets can be reached and, if asked for, written.

    Args:
        configuration: names the places.
        is_written: write, read and delete a small object at every place.
    """
    async with StorePool(configuration.storage.bos) as stores:
        for root in _roots(configuration):
            if _is_missing(root):
                yield warn(
                    "store", f"{root} is no folder here", "mount or make it; an upload makes it, and would fill the disk below a mount"
                )
                continue
            try:
                store = await stores.at(root)
                async with aclosing(store.list("")) as listed:  # type: ignore[type-var]
                    await anext(listed, None)
                if is_written:
                    await _probe(stores, root)
            except EpisodeflowError as error:
                yield fail(
                    "store", str(error), "correct store, bos.endpoint, bos.bucket or the keys; make the bucket or folder if it is missing"
                )
            else:
                yield ok("store", f"{root} can be {'written, read and deleted in' if is_written else 'listed'}")


def _is_missing(root: str) -> bool:
    uri = parse_uri(root)
    return uri.scheme == "file" and not Path(uri.root).is_dir()


def _roots(configuration: Loaded) -> Iterator[str]:
    places, seen = configuration.places(), set()
    for source in places.by_source.values():
        for place in (source.raw, source.target):
            if place is not None and not isinstance(place, LocalFolders) and place.root not in seen:
                seen.add(place.root)
                yield place.root


async def _probe(stores: StorePool, root: str) -> None:
    store = await stores.at(root)
    key, body = f"episodeflow-doctor-{uuid.uuid4().hex}", b"written by episodeflow doctor; may be deleted"
    try:
        await store.put_bytes(body, key)
        if await store.get_bytes(key) != body:
            raise Refused(f"{root}: what was written under {key} reads differently")
    finally:
        await store.delete([key])
