"""The whole system on one machine: nats-server, Valkey and every service as child processes over one folder.

Order of the start: servers, stream and consumers, services. Ready is what the servers see: both answer, and every
service has connected to the bus, asked for its consumers and gone on to pull. Order of the stop: services (with their
grace), then servers. Whatever dies in between is started again with a growing delay.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from cli.child import Child
from cli.embedding import Wish, basis, datasets_root, storage_document
from cli.servers import EmbeddedServer, NatsServer, NatsUser, ValkeyServer
from cli.state import Endpoints, NatsEndpoint, RedisEndpoint, ServiceEndpoint, StateFolder
from shared import logs
from shared.bus import Bus
from shared.config import StorageConfig
from shared.entry import Loaded, load
from shared.errors import BadConfig, Refused, Retryable
from shared.places import Place
from shared.provision import bus_users, provision, provision_plan
from shared.store import StorePool
from shared.store_uri import parse_uri

_log = logs.logger("stack")

_READY_TIMEOUT_S = 60.0
_PROBE_INTERVAL_S = 0.05
_WATCH_INTERVAL_S = 0.2
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_STOP_MARGIN_S = 15.0
"""What a service may take beyond its grace: closing connections, giving messages back."""


class Stack:
    """A running stack; use it as a context. Inside, everything was ready once.

    Args:
        state: its folder.
        wish: what to run.
        environ: the environment of the services, credentials of the store among it.
    """

    def __init__(self, state: StateFolder, wish: Wish, environ: Mapping[str, str]) -> None:
        self.state = state
        self._wish = wish
        self._environ = dict(environ)
        self._credentials = state.credentials()
        self._children: list[Child] = []
        self._servers: dict[str, EmbeddedServer] = {}
        self._server_restarts: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._is_ready = False
        self._stack = AsyncExitStack()
        self.notices: tuple[str, ...] = ()
        self.loaded: Loaded

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.enter_context(self.state.held())
            await self.state.wait_for_leftovers()
            self._credentials = self.state.credentials()
            found = basis(self._wish, self._environ)
            self.notices = found.notices
            await self._start_servers(stack, found.storage)
            self._environ |= self._credentials.environ(nats_url=self._nats.url)
            self.state.write_credentials(self._credentials.environ(nats_url=self._nats.url))
            document = storage_document(
                found,
                self._wish,
                self.state,
                nats_url=self._nats.url,
                redis_port=self._valkey.port,
                datasets_root=datasets_root(self._environ),
            )
            self.state.write_storage(document)
            self.loaded = load(self.state.storage_path, self._environ)
            await asyncio.to_thread(self._make_store)
            await self._check_stores()
            async with await Bus.connect(self.loaded.storage.nats, name="up") as bus:
                await provision(bus, provision_plan(self.loaded.storage))
            await self._start_services(stack)
            await self._until_ready()
            self._is_ready = True
            stack.callback(self.state.endpoints_path.unlink, missing_ok=True)
            self._changed()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_ready = False
        await self._stack.aclose()

    def endpoints(self) -> Endpoints:
        """Return where everything is right now."""
        storage = self.loaded.storage
        store = storage.store or f"s3://{storage.bos.bucket}"
        services = self._service_endpoints()
        return Endpoints(
            nats=NatsEndpoint(
                url=self._nats.url,
                user=self._credentials.nats_user,
                password=self._credentials.nats_password.reveal(),
                monitoring_url=self._nats.monitoring_url,
                port=self._nats.port,
                stream=storage.nats.stream,
            ),
            redis=RedisEndpoint(host="127.0.0.1", port=self._valkey.port, password=self._credentials.redis_password.reveal()),
            store=store,
            raw={source: place.uri for source, place in self._raw_places().items()},
            raw_prefix=storage.bos.paths.raw_data_prefix,
            converted_prefix=storage.bos.paths.converted_prefix,
            converted=f"{store.rstrip('/')}/{storage.bos.paths.converted_prefix}".rstrip("/"),
            config=str(self.state.storage_path),
            credentials=str(self.state.credentials_path),
            logs=str(self.state.logs),
            spool=str(storage.conversion.spool.path),
            pids={"up": os.getpid()} | {name: service.pid for name, service in services.items() if service.pid},
            services=services,
        )

    # --- servers ------------------------------------------------------------------------------------------

    @property
    def _nats(self) -> NatsServer:
        server = self._servers["nats"]
        assert isinstance(server, NatsServer)
        return server

    @property
    def _valkey(self) -> ValkeyServer:
        server = self._servers["valkey"]
        assert isinstance(server, ValkeyServer)
        return server

    def _nats_users(self, storage: StorageConfig) -> tuple[NatsUser, ...]:
        """Return the person who ran `up`, and every service with what it needs."""
        passwords = self._credentials.nats_passwords
        limited = tuple(NatsUser.of(user, passwords[user.name]) for user in bus_users(storage) if user.name in passwords)
        return (NatsUser(name=self._credentials.nats_user, password=self._credentials.nats_password), *limited)

    async def _start_servers(self, stack: AsyncExitStack, storage: StorageConfig) -> None:
        ports = self.state.server_ports()
        nats = NatsServer(self.state.path / "nats", users=self._nats_users(storage))
        nats.port, nats.monitoring_port = ports.get("nats", 0), ports.get("nats_monitoring", 0)
        valkey = ValkeyServer(self.state.path / "valkey")
        valkey.password, valkey.port = self._credentials.redis_password, ports.get("valkey", 0)
        self._servers = {"nats": nats, "valkey": valkey}
        for name, server in self._servers.items():
            stack.push_async_callback(server.stop)
            await _started(server, is_known=bool(ports))
            watching = asyncio.create_task(self._watch(name, server))
            stack.push_async_callback(_cancelled, watching)
        self.state.write_server_ports({"nats": nats.port, "nats_monitoring": nats.monitoring_port, "valkey": valkey.port})

    async def _watch(self, name: str, server: EmbeddedServer) -> None:
        """Start a server again whenever it died; it keeps its port, so the services find it by themselves."""
        delay_s = _FIRST_DELAY_S
        while True:
            while server.pid is not None:
                await asyncio.sleep(_WATCH_INTERVAL_S)  # a Popen tells nobody of its end
                delay_s = max(_FIRST_DELAY_S, delay_s / 2**_WATCH_INTERVAL_S)
            self._server_restarts[name] += 1
            self._changed()
            _log.warning("child.ended", name=name, attempts=self._server_restarts[name], delay_s=round(delay_s, 2))
            await asyncio.sleep(delay_s)
            delay_s = min(4 * delay_s, _LONGEST_DELAY_S)
            try:
                await server.restart()
            except Refused as error:
                _log.warning("child.refused", name=name, error=str(error))
            self._changed()

    # --- services -----------------------------------------------------------------------------------------

    def _make_store(self) -> None:
        """Make the folder of a file store: an empty store is no mistake here."""
        uri = parse_uri(self.loaded.storage.store or f"s3://{self.loaded.storage.bos.bucket}")
        if uri.scheme == "file":
            Path(uri.root).mkdir(parents=True, exist_ok=True)

    async def _check_stores(self) -> None:
        """Make sure that every place of raw episodes can be reached with our credentials; one that is only away may come back.

        Raises:
            Rejected: a service would end with this error as soon as it started.
        """
        async with StorePool(self.loaded.storage.bos) as stores:
            for place in self._raw_places().values():
                store = await stores.at(place.root)
                try:
                    await store.clock_s()
                except Retryable as error:
                    self.notices = (*self.notices, str(error))

    def _commands(self) -> dict[str, list[str]]:
        """Return the command line of every service by its name."""
        converters = [f"converter-{index + 1}" for index in range(self._wish.converters)]
        modules = {"scanner": "scanner", **dict.fromkeys(converters, "converter"), "uploader": "uploader"}
        # -P: a folder `services` where the user stands is not ours.
        prefix = [sys.executable, "-P", "-m"]
        if self._wish.niceness:
            prefix = ["nice", "-n", str(self._wish.niceness), *prefix]
        return {name: [*prefix, f"services.{module}", "-c", str(self.state.storage_path)] for name, module in modules.items()}

    async def _start_services(self, stack: AsyncExitStack) -> None:
        grace_s = self.loaded.storage.conversion.grace_s + _STOP_MARGIN_S
        for name, command in self._commands().items():
            log_path = self.state.logs / f"{name}.log"
            self._children.append(Child(name, command, environ=self._environ, log_path=log_path, on_change=self._changed))
        tasks = [asyncio.create_task(child.run(self._stopping, grace_s=grace_s)) for child in self._children]
        stack.push_async_callback(self._stop_services, tasks)

    async def _stop_services(self, tasks: list[asyncio.Task[None]]) -> None:
        self._stopping.set()
        await asyncio.gather(*tasks)

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while missing := await self._missing():
                    broken = [child for child in self._children if child.restarts]
                    if broken:
                        raise Refused(f"the {broken[0].name} ended while starting: {broken[0].last_words()} (see {broken[0].log_path})")
                    await asyncio.sleep(_PROBE_INTERVAL_S)  # the server tells nobody of new connections
        except TimeoutError as error:
            raise Refused(f"{', '.join(missing)} not ready within {_READY_TIMEOUT_S:g} s: see {self.state.logs}") from error

    async def _missing(self) -> list[str]:
        """Return the services that the bus does not see at work yet.

        A service first asks about each of its consumers and then pulls; who sent more than those questions pulls.
        """
        plan = provision_plan(self.loaded.storage)
        num_questions = len(plan.durables) - 1  # one is the uploader's, the others are every converter's
        wanted = {
            "scanner": (1, 0),
            "converter": (self._wish.converters, num_questions + 1),
            f"uploader-{self.loaded.storage.conversion.spool.name}": (1, 2),
        }
        connections = await _connections(self._nats.monitoring_port)
        return [
            name
            for name, (count, num_messages) in wanted.items()
            if sum(each.name == name and each.in_msgs >= num_messages for each in connections) < count
        ]

    # --- what is told -------------------------------------------------------------------------------------

    def _raw_places(self) -> dict[str, Place]:
        """Return where raw episodes lie in a store, by source; the folders of `local` are nobody's store."""
        places = self.loaded.places()
        found: dict[str, Place] = {}
        for source in places.sources:
            with suppress(BadConfig):  # `local` without folders
                root = places.raw_root(source)
                if isinstance(root, Place):
                    found[source] = root
        return found

    def _service_endpoints(self) -> dict[str, ServiceEndpoint]:
        servers = {
            name: ServiceEndpoint(pid=server.pid, log=str(server.folder / "server.log"), restarts=self._server_restarts[name])
            for name, server in self._servers.items()
        }
        services = {
            child.name: ServiceEndpoint(pid=child.pid, log=str(child.log_path), restarts=child.restarts) for child in self._children
        }
        return servers | services

    def _changed(self) -> None:
        """Bring ``endpoints.json`` up to date, once everything was ready."""
        if self._is_ready:
            self.state.write_endpoints(self.endpoints())


class _Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A client as the bus sees it."""

    name: str = ""
    in_msgs: int = 0


class _Connections(msgspec.Struct, frozen=True, kw_only=True):
    connections: list[_Connection] = []


async def _connections(monitoring_port: int) -> list[_Connection]:
    """Return who is connected to the bus; nobody, if it does not answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", monitoring_port)
        try:
            writer.write(b"GET /connz?limit=1024 HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=_Connections).connections
    except (OSError, msgspec.DecodeError):
        return []


async def _started(server: EmbeddedServer, *, is_known: bool) -> Any:
    """Start a server on the ports it had, or on others if somebody took them meanwhile."""
    if is_known:
        try:
            return await server.restart()
        except Refused as error:
            _log.info("child.moved", name=server.name, reason=str(error))
    return await server.start()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
