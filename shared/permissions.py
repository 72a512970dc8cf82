"""Who may do what on the bus: one table of users and subjects, and its text for nats-server.

Pure. The embedded stack, ``config/nats/users.conf`` and the tests on a real server use this one table. Each user has the
subjects its work needs and no other. What needs a word:

- Durables are named one by one: a wildcard in a subject stands for a whole token, so ``converter-*`` does not exist.
- Answers come to an inbox; each user has a prefix of its own (``inbox_prefix``), else one could read another's answers.
- ``may_respond`` lets a service answer the requests that reach it (the micro-services protocol) and nobody else.
- The uploader takes leases on datasets: keys of a bucket that it writes, reads, and listens to for another's farewell.
- ``$JS.API.STREAM.MSG.GET`` is read-only; converter and uploader need it to tell the age of the oldest waiting event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

ADMIN = "admin"
"""Provisions, backs up, deletes: everything."""

LIMITED_USERS = ("recorder", "scanner", "converter", "uploader", "operator", "monitor")
"""Everybody else: services, and people who look and publish."""

_OWN_PERMISSIONS = "$SYS.REQ.USER.INFO"
"""Tells a user its own permissions and no other's: what `episodeflow doctor` checks."""

STATUS_SUBJECT = "episodeflow.status"
"""Services answer on ``episodeflow.status.{service}``."""

RECORDER_SUBJECT = "episodeflow.recorder"
"""Recorders are driven on ``episodeflow.recorder.{robot}.{start|stop|discard|status}``."""

PROGRESS_SUBJECT = "episodeflow.progress"
"""Services tell how far they are on ``episodeflow.progress.…``, without JetStream."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """One user of the bus; None permits every subject.

    Attributes:
        name: also the service's name.
        publish: subjects it may send to.
        subscribe: subjects it may listen to.
        may_respond: whether it may answer the requests it receives.
    """

    name: str
    publish: tuple[str, ...] | None = None
    subscribe: tuple[str, ...] | None = None
    may_respond: bool = False


def inbox_prefix(user: str) -> str:
    """Return where the answers for a user arrive; nobody else may listen there."""
    return "_INBOX_" + re.sub(r"[^A-Za-z0-9_-]", "_", user)


def micro_name(service: str) -> str:
    """Return a service's name in the micro-services protocol."""
    return f"episodeflow-{service}"


def leases_stream(stream: str) -> str:
    """Return the stream below the key-value bucket of leases that belongs to a stream of events."""
    return f"KV_{stream}_leases"


def leases_prefix(stream: str) -> str:
    """Return what the subjects of that bucket's keys begin with."""
    return f"$KV.{stream}_leases"


def users(*, stream: str, subject_by_durable: Mapping[str, str]) -> tuple[User, ...]:
    """Return the table for one stream.

    Args:
        stream: its name.
        subject_by_durable: the one subject of each durable consumer, as provisioned.
    """
    ready = _durables(subject_by_durable, "episode.ready")
    converted = _durables(subject_by_durable, "episode.converted")
    announced = tuple(sorted({*ready.values(), "episode.ready"}))
    progress = f"{PROGRESS_SUBJECT}.>"
    return (
        User(name=ADMIN),
        _service("recorder", publish=(*announced, progress, f"{RECORDER_SUBJECT}.*.status"), subscribe=(f"{RECORDER_SUBJECT}.>",)),
        _service("scanner", publish=(*announced, progress)),
        _service(
            "converter",
            publish=(*sorted(set(converted.values())), "episode.failed.>", progress, *_consuming(stream, ready)),
        ),
        _service(
            "uploader",
            publish=("episode.uploaded.>", "episode.failed.>", progress, *_consuming(stream, converted), *_leasing(stream)),
            subscribe=(f"{leases_prefix(stream)}.>",),
        ),
        _person("operator", stream=stream, publish=(*announced, *sorted(set(converted.values())), f"{RECORDER_SUBJECT}.>")),
        _person("monitor", stream=stream, publish=()),
    )


def users_text(table: tuple[User, ...], password_by_name: Mapping[str, str]) -> str:
    """Return the ``authorization`` block of a nats-server configuration.

    Args:
        table: who may do what.
        password_by_name: each password as the server shall read it: ``quoted(…)``, or ``$NAME`` of an environment variable.
    """
    blocks = ",\n".join(_user_text(user, password_by_name[user.name]) for user in table)
    return f"authorization {{\n  users: [\n{blocks}\n  ]\n}}\n"


def password_variable(user: str) -> str:
    """Return the environment variable that gives nats-server a user's password."""
    return f"NATS_{user.upper()}_PASSWORD"


def quoted(text: str) -> str:
    """Return a text as nats-server reads it literally."""
    return json.dumps(text)


def _durables(subject_by_durable: Mapping[str, str], stage: str) -> dict[str, str]:
    return {name: subject for name, subject in subject_by_durable.items() if subject == stage or subject.startswith(f"{stage}.")}


def _consuming(stream: str, durables: Mapping[str, str]) -> tuple[str, ...]:
    """Return what it takes to look at durables, pull from them and settle what came."""
    each = [
        subject
        for name in durables
        for subject in (
            f"$JS.API.CONSUMER.INFO.{stream}.{name}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}",
            f"$JS.ACK.{stream}.{name}.>",
        )
    ]
    return (*each, f"$JS.API.STREAM.MSG.GET.{stream}")


def _leasing(stream: str) -> tuple[str, ...]:
    """Return what it takes to look at leases, and to take, keep and release them."""
    return f"{leases_prefix(stream)}.>", f"$JS.API.STREAM.MSG.GET.{leases_stream(stream)}"


def _service(name: str, *, publish: tuple[str, ...], subscribe: tuple[str, ...] = ()) -> User:
    registered = tuple(
        subject
        for verb in ("PING", "INFO", "STATS")
        for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{micro_name(name)}", f"$SRV.{verb}.{micro_name(name)}.*")
    )
    heard = (f"{inbox_prefix(name)}.>", f"{STATUS_SUBJECT}.{name}", *registered, *subscribe)
    return User(name=name, publish=(*publish, _OWN_PERMISSIONS), subscribe=heard, may_respond=True)


def _person(name: str, *, stream: str, publish: tuple[str, ...]) -> User:
    """Somebody who looks at everything, and publishes what ``publish`` says."""
    looking = (
        _OWN_PERMISSIONS,
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.CONSUMER.NAMES.{stream}",
        f"$JS.API.CONSUMER.LIST.{stream}",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        "$SRV.>",
        f"{STATUS_SUBJECT}.>",
    )
    return User(name=name, publish=(*publish, *looking), subscribe=(f"{inbox_prefix(name)}.>", f"{PROGRESS_SUBJECT}.>"))


def _user_text(user: User, password: str) -> str:
    lines = [f"user: {quoted(user.name)}, password: {password}"]
    granted = [(kind, subjects) for kind, subjects in (("publish", user.publish), ("subscribe", user.subscribe)) if subjects is not None]
    if granted:
        permissions = [f"        {kind}: [\n{_listed(subjects)}\n        ]" for kind, subjects in granted]
        permissions += ["        allow_responses: true"] if user.may_respond else []
        lines.append("  permissions: {\n" + "\n".join(permissions) + "\n      }")
    return "    { " + ",\n    ".join(lines) + " }"


def _listed(subjects: tuple[str, ...]) -> str:
    return ",\n".join(f"          {quoted(subject)}" for subject in subjects)
