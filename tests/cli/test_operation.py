"""What the operator's commands share, and that the users of the table of permissions suffice for them."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cli.operation import clock_text, moment_s, span_text
from cli.servers import NatsServer, NatsUser
from shared.bus import Bus
from shared.config import StorageConfig, load_storage
from shared.errors import BadConfig
from shared.permissions import users
from shared.provision import provision, provision_plan
from shared.settings import Secret
from tests.cli.labs import Lab, failed, write_storage


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab whose server knows every user of the table; the bus is the admin's."""
    plan = provision_plan(StorageConfig(sources=("lab", "other")))
    table = users(stream="EPISODES", subject_by_durable={durable.name: durable.subject for durable in plan.durables})
    guests = tuple(NatsUser.of(user, Secret(f"secret-of-{user.name}")) for user in table)
    async with NatsServer(tmp_path / "nats", users=guests) as server:
        write_storage(tmp_path, server)
        storage, _ = load_storage(tmp_path / "storage.yaml", {})
        async with await Bus.connect(storage.nats, name="test") as bus:
            await provision(bus, plan)
            await bus.publish(failed("a"), message_id="a")
            yield Lab(tmp_path, bus)


def become(lab: Lab, user: str) -> None:
    document = msgspec.yaml.decode(lab.config.read_bytes())
    document["nats"] |= {"user": user, "password": f"secret-of-{user}"}
    lab.config.write_bytes(msgspec.yaml.encode(document))


@pytest.mark.parametrize(
    "arguments", [("failed", "list"), ("failed", "show", "a"), ("monitor", "--once"), ("failed", "republish", "a", "--dry-run")]
)
async def test_user_monitor_may_look_at_everything(guarded: Lab, arguments: tuple[str, ...]) -> None:
    become(guarded, "monitor")

    assert (await guarded.run(*arguments)).exit_code == 0


async def test_user_operator_may_publish_again(guarded: Lab) -> None:
    become(guarded, "operator")

    result = await guarded.run("failed", "republish", "--all")

    assert (result.exit_code, (await guarded.subjects())["episode.ready.lab"]) == (0, 1)


def test_moments_are_spans_ago_or_dates_in_utc() -> None:
    assert moment_s("90m", now_s=10_000.0) == 10_000.0 - 5400
    assert moment_s("1.5h", now_s=10_000.0) == 10_000.0 - 5400
    assert clock_text(moment_s("2026-11-20", now_s=0.0)) == "2026-11-20 00:00:00"
    assert clock_text(moment_s("2026-11-20T08:30", now_s=0.0)) == "2026-11-20 08:30:00"
    assert clock_text(moment_s("2026-11-20T08:30+02:00", now_s=0.0)) == "2026-11-20 06:30:00"


@pytest.mark.parametrize("text", ["", "1", "h", "1y", "-1h", "2026-13-01", "1h\n2h"])
def test_other_moments_are_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="expected a span"):
        moment_s(text, now_s=0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0s"),
        (59.4, "59s"),
        (61.0, "1m 01s"),
        (3599.0, "59m 59s"),
        (7620.0, "2h 07m"),
        (90_000.0, "1d 01h"),
        (-3.0, "0s"),
    ],
)
def test_spans_are_short_and_in_two_units(seconds: float | None, text: str) -> None:
    assert span_text(seconds) == text
