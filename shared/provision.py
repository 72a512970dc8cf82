"""The streams and the durable consumers this product needs, made or brought up to date in place.

Decides their names and settings: a contract with operators. Nothing that exists is dropped: settings that are
not ours stay as somebody else made them, subjects are added and never taken away.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shared.bus import Bus
from shared.config import NatsConfig, StorageConfig, durable_name, source_configs
from shared.errors import Refused
from shared.leases import LEASE_S
from shared.permissions import User, leases_prefix, leases_stream, users

_NS_PER_S = 1_000_000_000

ANY_DURABLE = "converter-any"
"""Serves the bare subject ``episode.ready``."""


class Durable(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer: its name and the one subject it gets."""

    name: str
    subject: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be there: settings by their JetStream names, the consumers, and the stream below the bucket of leases."""

    stream: str
    stream_settings: dict[str, Any]
    leases: str
    leases_settings: dict[str, Any]
    consumer_settings: dict[str, Any]
    durables: tuple[Durable, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with one stream or consumer."""

    kind: Literal["stream", "consumer"]
    name: str
    done: Literal["created", "updated", "unchanged"]


def converter_durable(source: str) -> Durable:
    """Return the consumer that hands a source's episodes to converters."""
    return Durable(name=f"converter-{durable_name(source)}", subject=f"episode.ready.{source}")


def uploader_durable(spool: str) -> Durable:
    """Return the consumer that hands a spool's datasets to its uploader."""
    return Durable(name=f"uploader-{durable_name(spool)}", subject=f"episode.converted.{spool}")


def provision_plan(config: StorageConfig) -> Plan:
    """Return what the configuration wants to be there."""
    sources = [source.name for source in source_configs(config)]
    durables = [converter_durable(source) for source in sources]
    return Plan(
        stream=config.nats.stream,
        stream_settings=_stream_settings(config.nats),
        leases=leases_stream(config.nats.stream),
        leases_settings=leases_settings(config.nats.stream),
        consumer_settings=_consumer_settings(config.nats),
        durables=(
            *durables,
            Durable(name=ANY_DURABLE, subject="episode.ready"),
            uploader_durable(config.conversion.spool.name),
        ),
    )


def bus_users(config: StorageConfig) -> tuple[User, ...]:
    """Return who may do what on the bus of this configuration."""
    plan = provision_plan(config)
    return users(stream=plan.stream, subject_by_durable={durable.name: durable.subject for durable in plan.durables})


async def provision(bus: Bus, plan: Plan) -> list[Change]:
    """Make or update what the plan wants, and return what was done.

    Raises:
        Refused: no permission, or what exists differs in a setting that cannot be changed.
        BusUnavailable: the server does not answer.
    """
    changes = [
        await _provision_stream(bus, plan.stream, plan.stream_settings),
        await _provision_stream(bus, plan.leases, plan.leases_settings),
    ]
    for durable in plan.durables:
        changes.append(await _provision_consumer(bus, plan, durable))  # noqa: PERF401 - one after the other, in order
    return changes


def _stream_settings(config: NatsConfig) -> dict[str, Any]:
    return {
        "subjects": ["episode.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "max_age": int(config.max_age_days * 86_400 * _NS_PER_S),
        "duplicate_window": int(config.duplicate_window_s * _NS_PER_S),
    }


def leases_settings(stream: str, *, lease_s: float = LEASE_S) -> dict[str, Any]:
    """Return the settings of the key-value bucket of leases, as every client of the key-value store makes one.

    Args:
        stream: the stream of events whose bucket it is.
        lease_s: after which a key is forgotten that nobody wrote again.
    """
    age_ns = int(lease_s * _NS_PER_S)
    return {
        "subjects": [f"{leases_prefix(stream)}.>"],
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_age": age_ns,
        "duplicate_window": age_ns,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
    }


def _consumer_settings(config: NatsConfig) -> dict[str, Any]:
    return {
        "deliver_policy": "all",
        "ack_policy": "explicit",
        # No backoff: it would replace the ack wait. The limit of attempts is ours, so the server has none.
        "ack_wait": int(config.ack_wait_s * _NS_PER_S),
        "max_deliver": -1,
        "max_ack_pending": config.max_ack_pending,
    }


async def _provision_stream(bus: Bus, name: str, settings: dict[str, Any]) -> Change:
    found = await bus.api(f"STREAM.INFO.{name}", {})
    existing = found["config"] if found else {}
    wanted = {**existing, **settings, "name": name}
    wanted["subjects"] = list(dict.fromkeys([*existing.get("subjects", []), *settings["subjects"]]))
    if wanted == existing:
        return Change(kind="stream", name=name, done="unchanged")
    await _applied(bus, f"STREAM.{'UPDATE' if found else 'CREATE'}.{name}", wanted)
    return Change(kind="stream", name=name, done="updated" if found else "created")


async def _provision_consumer(bus: Bus, plan: Plan, durable: Durable) -> Change:
    found = await bus.api(f"CONSUMER.INFO.{plan.stream}.{durable.name}", {})
    existing = found["config"] if found else {}
    ours = {"name": durable.name, "durable_name": durable.name, "filter_subject": durable.subject, **plan.consumer_settings}
    wanted = {key: value for key, value in existing.items() if key != "backoff"} | ours
    if wanted == existing:
        return Change(kind="consumer", name=durable.name, done="unchanged")
    request = {"stream_name": plan.stream, "config": wanted, "action": "update" if found else "create"}
    await _applied(bus, f"CONSUMER.CREATE.{plan.stream}.{durable.name}.{durable.subject}", request)
    return Change(kind="consumer", name=durable.name, done="updated" if found else "created")


async def _applied(bus: Bus, call: str, request: dict[str, Any]) -> None:
    if await bus.api(call, request) is None:
        raise Refused(f"the JetStream call {call} found no stream {bus.config.stream}: somebody removed it meanwhile, run it again")
