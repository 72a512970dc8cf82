"""`episodeflow publish` on a real bus."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from cli.publish import overrides
from cli.servers import NatsServer
from shared.bus import Bus
from shared.config import StorageConfig
from shared.errors import BadConfig
from shared.events import EpisodeReady, decode
from shared.provision import provision, provision_plan
from tests.e2e.stacks import write_config


def publish(config: Path, nats: NatsServer, *arguments: str) -> Result:
    user = nats.config()
    environ = {"NATS_USER": user.user or "", "NATS_PASSWORD": user.password.reveal() if user.password else ""}
    command = click_command()
    return CliRunner().invoke(command, ["-c", str(config), *arguments], env=environ)


def click_command() -> Any:
    from cli.publish import command

    return command


@pytest.fixture
def config(tmp_path: Path, nats_server: NatsServer, storage_config: StorageConfig, source: str) -> Path:
    async def provisioned() -> None:
        async with await Bus.connect(storage_config.nats, name="test") as bus:
            await provision(bus, provision_plan(storage_config))

    asyncio.run(provisioned())
    return write_config(tmp_path, sources=[source], nats={"servers": [nats_server.url]}, store=tmp_path.as_uri())


def last_event(storage: StorageConfig, source: str) -> EpisodeReady:
    async def found() -> EpisodeReady:
        async with await Bus.connect(storage.nats, name="test") as bus:
            stored = await bus.stored(1, next_on=f"episode.ready.{source}")
            assert stored is not None
            return decode(stored.body, EpisodeReady)

    return asyncio.run(found())


def test_published_event_says_what_the_options_say(
    config: Path, nats_server: NatsServer, storage_config: StorageConfig, source: str
) -> None:
    options = [
        "--strategy",
        "chunking",
        "--task",
        "Stack.",
        "--raw",
        "file:///data/e1",
        "--set",
        "video.crf=18",
        "--set",
        "alignment.chunk_size=4",
    ]
    result = publish(config, nats_server, "-e", "episode_0001", "-s", source, *options)
    event = last_event(storage_config, source)

    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"published episode_0001 of {source} as message ")
    assert (event.episode_id, event.source, event.strategy, event.task) == ("episode_0001", source, "chunking", "Stack.")
    assert event.raw == "file:///data/e1"
    assert event.config_overrides == {"video.crf": 18, "alignment.chunk_size": 4}
    assert event.timestamp > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-e", "e1", "-s", "elsewhere"], "the source 'elsewhere' is not configured: expected one of test-"),
        (["-e", "../e1", "-s", "{source}"], "publish: episode_id"),
        (["-e", "e1", "-s", "{source}", "--set", "video.crf"], "--set: expected KEY=VALUE"),
        (["-e", "e1", "-s", "{source}", "--set", "video.crv=1"], "config_overrides: video.crv: unknown key"),
        (["-e", "e1", "-s", "{source}", "--raw", "ftp://x"], "raw: 'ftp://x' is no store"),
    ],
)
def test_wrong_option_is_one_sentence_and_publishes_nothing(
    config: Path, nats_server: NatsServer, source: str, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    arguments = [argument.format(source=source) if argument == "{source}" else argument for argument in arguments]
    with pytest.raises(SystemExit) as ended:
        main(["publish", "-c", str(config), *arguments])
    err = capsys.readouterr().err

    assert ended.value.code == 1
    assert err.startswith(f"error: {sentence}"), err
    assert err.count("\n") == 1


def test_values_are_read_as_yaml() -> None:
    found = overrides(("a.b=18", "c=true", "d=text", "e=", "f=[1, 2]", "g=x=y"))

    assert found == {"a.b": 18, "c": True, "d": "text", "e": "", "f": [1, 2], "g": "x=y"}


def test_value_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(BadConfig, match="is no YAML"):
        overrides(("a=[1",))


def test_overrides_survive_the_wire() -> None:
    event = EpisodeReady(episode_id="e", source="s", config_overrides=overrides(("video.crf=18",)))

    assert decode(msgspec.json.encode(event), EpisodeReady) == event
