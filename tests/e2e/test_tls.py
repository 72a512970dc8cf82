"""TLS between clients and a real nats-server, with certificates made for the test."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cli.servers import NatsServer, NatsTls
from shared.bus import Bus
from shared.config import NatsConfig, TlsConfig
from shared.errors import BadConfig, BusUnavailable, Refused
from tests.certificates import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signed the server's certificate."""
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signed nothing of ours."""
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


def nats(folder: Path, authority: Authority, *, wants_client: bool = False, address: str = "IP:127.0.0.1") -> NatsServer:
    server = authority.signed("server", address=address)
    return NatsServer(
        folder, tls=NatsTls(cert_file=server.cert, key_file=server.key, client_ca_file=authority.pair.cert if wants_client else None)
    )


def client(server: NatsServer, authority: Authority | None, pair: Pair | None = None) -> NatsConfig:
    files = {"cert_file": str(pair.cert), "key_file": str(pair.key)} if pair else {}
    tls = TlsConfig(ca_file=str(authority.pair.cert), **files) if authority else None
    return msgspec.structs.replace(server.config(), tls=tls, connect_timeout_s=3.0)


async def test_client_that_knows_the_authority_connects_encrypted(tmp_path: Path, authority: Authority) -> None:
    async with nats(tmp_path, authority) as server, await Bus.connect(client(server, authority), name="test") as bus:
        assert server.url.startswith("tls://")
        assert await bus.stream_info() is None


async def test_client_with_another_authority_is_told_about_the_certificate(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    async with nats(tmp_path, authority) as server:
        with pytest.raises(Refused, match=r"nats\.tls\.ca_file"):
            await Bus.connect(client(server, stranger), name="test")


async def test_certificate_for_another_host_is_refused(tmp_path: Path, authority: Authority) -> None:
    async with nats(tmp_path, authority, address="DNS:elsewhere.example") as server:
        with pytest.raises(Refused, match=r"nats\.tls\.ca_file"):
            await Bus.connect(client(server, authority), name="test")


async def test_client_without_tls_does_not_get_in(tmp_path: Path, authority: Authority) -> None:
    async with nats(tmp_path, authority) as server:
        plain = msgspec.structs.replace(client(server, None), servers=(server.url.replace("tls://", "nats://"),))

        with pytest.raises((Refused, BusUnavailable)):
            await Bus.connect(plain, name="test")


async def test_server_that_wants_client_certificates_lets_in_only_who_shows_one(tmp_path: Path, authority: Authority) -> None:
    async with nats(tmp_path, authority, wants_client=True) as server:
        async with await Bus.connect(client(server, authority, authority.signed("converter")), name="test") as bus:
            assert await bus.stream_info() is None
        with pytest.raises((Refused, BusUnavailable)):
            await Bus.connect(client(server, authority), name="test")


async def test_missing_authority_file_is_refused_with_its_name(tmp_path: Path) -> None:
    config = NatsConfig(tls=TlsConfig(ca_file=str(tmp_path / "nowhere.pem")))

    with pytest.raises(BadConfig, match=r"nats: tls: .*nowhere\.pem"):
        await Bus.connect(config, name="test")


async def test_client_with_tls_gives_its_password_to_no_server_without(tmp_path: Path, authority: Authority) -> None:
    async with NatsServer(tmp_path) as server:
        with pytest.raises((Refused, BusUnavailable), match="TLS"):
            await Bus.connect(client(server, authority), name="test")
