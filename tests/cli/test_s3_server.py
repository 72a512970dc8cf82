"""The embedded S3 server: what it holds survives a kill, and it only lets its own keys in."""

from pathlib import Path

from cli.s3_server import S3Server, free_ports
from shared.store import open_store
from tests.fixtures_store import create_bucket


async def test_objects_survive_a_kill_and_a_restart_on_the_same_address(private_s3_server: S3Server) -> None:
    server = private_s3_server
    await create_bucket(server, "kept")
    store = await open_store("s3://kept", server.bos_config())
    await store.put_bytes(b"x", "a")
    endpoint = server.endpoint

    await server.kill()
    await server.start()
    body = await store.get_bytes("a")
    await store.close()

    assert body == b"x"
    assert server.endpoint == endpoint


async def test_stopping_twice_and_stopping_what_never_ran_is_fine(tmp_path: Path) -> None:
    server = S3Server(tmp_path)

    await server.stop()
    await server.kill()

    assert not server.log_path.exists()


def test_ports_are_distinct_and_leave_room_for_their_partners() -> None:
    ports = free_ports(6)

    assert len(set(ports)) == 6
    assert all(20_000 <= port < 32_000 for port in ports)
