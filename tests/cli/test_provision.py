"""`episodeflow provision` on a real server."""

from pathlib import Path

from click.testing import CliRunner

from cli.provision import command
from cli.servers import NatsServer
from tests.e2e.stacks import write_config


def test_first_run_creates_and_the_second_changes_nothing(tmp_path: Path, nats_server: NatsServer, source: str) -> None:
    nats = {"servers": [nats_server.url], "stream": source, "password": nats_server.users[0].password.reveal(), "user": "episodeflow"}
    # A stream of its own would overlap with the session's: only its consumers are looked at.
    config = write_config(tmp_path, sources=[source], nats={**nats, "stream": "EPISODES"}, redis={"poll_interval": 5})
    first = CliRunner().invoke(command, ["-c", str(config)])
    second = CliRunner().invoke(command, ["-c", str(config)])

    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert f"created   consumer converter-{source}" in first.output
    assert "redis.poll_interval is accepted and ignored" in first.output
    assert f"unchanged consumer converter-{source}" in second.output
    assert "unchanged stream EPISODES" in second.output
