"""`episodeflow publish`: announce a raw episode by hand."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cli import operation
from shared.errors import BadConfig
from shared.events import EpisodeReady, Strategy

if TYPE_CHECKING:
    from shared.entry import Loaded
    from shared.message import Receipt

_DEADLINE_S = 30.0


@click.command("publish")
@click.option("-e", "--episode", "episode_id", required=True, metavar="NAME", help="Name of the raw episode.")
@click.option("-s", "--source", required=True, metavar="SOURCE", help="Who recorded it: one of `sources` in the storage file.")
@click.option("--strategy", type=click.Choice(get_args(Strategy)), help="Alignment strategy. [default: the configured one]")
@click.option("--raw", metavar="URI", help="Folder of the raw episode (file:///… or s3://…). [default: the source's place]")
@click.option("--task", metavar="TEXT", help="The instruction in words. [default: what the raw episode says]")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Value over the strategy file, e.g. video.crf=18; may be repeated."
)
@operation.config_option
def command(
    config_path: Path,
    episode_id: str,
    source: str,
    strategy: str | None,
    raw: str | None,
    task: str | None,
    changes: tuple[str, ...],
) -> None:
    """Announce a raw episode: publish episode.ready, from which a converter takes it.

    Every call is a new event: an episode that was converted before is converted again.

    \b
    Example: episodeflow publish -e episode_0001 -s local --strategy chunking --set video.crf=18
    """
    loaded = operation.loaded(config_path)
    event = ready_event(episode_id=episode_id, source=source, strategy=strategy, raw=raw, task=task, changes=changes)
    loaded.places().raw(event)  # an unknown source or a wrong URI is refused here, not by a converter much later
    _check_overrides(loaded.template, event)
    receipt = asyncio.run(_published(loaded, event))
    click.echo(f"published {episode_id} of {source} as message {receipt.seq} of stream {loaded.storage.nats.stream}")


def ready_event(
    *, episode_id: str, source: str, strategy: str | None, raw: str | None, task: str | None, changes: tuple[str, ...]
) -> EpisodeReady:
    """Return the event that the options describe.

    Raises:
        BadConfig: a name that cannot be one, or a change that is not KEY=VALUE.
    """
    from shared import settings  # noqa: PLC0415

    document = {
        "episode_id": episode_id,
        "source": source,
        "strategy": strategy,
        "raw": raw,
        "task": task,
        "timestamp": time.time(),
        "config_overrides": overrides(changes),
    }
    return settings.decode(document, EpisodeReady, place="publish")


def overrides(changes: tuple[str, ...]) -> dict[str, Any]:
    """Return ``("video.crf=18", …)`` as values by key; a value is read as YAML, so that 18 is a number.

    Raises:
        BadConfig: one is not KEY=VALUE.
    """
    import msgspec  # noqa: PLC0415

    found: dict[str, Any] = {}
    for change in changes:
        key, separator, text = change.partition("=")
        if not separator or not key.strip():
            raise BadConfig("--set", "", f"expected KEY=VALUE, for example video.crf=18 (found {change!r})")
        try:
            found[key.strip()] = msgspec.yaml.decode(text) if text.strip() else ""
        except msgspec.DecodeError as error:
            raise BadConfig("--set", key.strip(), f"the value {text!r} is no YAML: {' '.join(str(error).split())}") from error
    return found


def _check_overrides(template: dict[str, Any], event: EpisodeReady) -> None:
    from shared.config import decode_strategy  # noqa: PLC0415

    if event.config_overrides:
        decode_strategy(template, place="--set", overrides=event.config_overrides)


async def _published(loaded: Loaded, event: EpisodeReady) -> Receipt:
    async with operation.connected(loaded, name="publish") as bus:
        strategy = event.strategy or "configured"
        message_id = f"ready:{event.source}:{event.episode_id}:{strategy}:{uuid.uuid4().hex}"
        return await bus.publish(event, message_id=message_id, deadline_s=_DEADLINE_S)
