"""The micro-services protocol of NATS: a service, its endpoints, and who answers. With ``connection``, the door to nats-py.

Every instance answers a request to a subject, not one of them: whoever asks wants to hear all replicas.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service, ServiceConfig

from shared import logs

_log = logs.logger("registration")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Something a service answers: its name, the subject of requests, and the answer to a request's body."""

    name: str
    subject: str
    answer: Callable[[bytes], Awaitable[bytes]]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a service says about itself."""

    name: str
    version: str
    description: str
    metadata: dict[str, str]


class Registered:
    """A registration in the micro-services protocol."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def end(self) -> None:
        """End it."""
        try:
            await self._service.stop()
        except (nats.errors.Error, OSError) as error:
            # The connection is gone, and the registration with it.
            _log.debug("bus.unregistered", error=str(error) or type(error).__name__)


async def registered(client: Client, identity: Identity, endpoints: Sequence[Endpoint]) -> Registered:
    """Register a service; errors are those of nats-py, which ``connection`` translates."""
    config = ServiceConfig(name=identity.name, version=identity.version, description=identity.description, metadata=identity.metadata)
    service = Service(client, config)
    await service.start()
    for endpoint in endpoints:
        await service.add_endpoint(
            name=endpoint.name, subject=endpoint.subject, queue_group=service.id, handler=_responder(endpoint), metadata={}
        )
    return Registered(service)


def _responder(endpoint: Endpoint) -> Callable[[Request], Awaitable[None]]:
    async def respond(request: Request) -> None:
        await request.respond(await endpoint.answer(request.data))

    return respond
