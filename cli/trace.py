"""`episodeflow trace`: what an episode of a dataset was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.provenance import read_manifest
from shared.lerobot.records import ProvenanceLine, read_lines

_SHORT_DIGITS = 16


@click.command("trace")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("episode", metavar="EPISODE")
@click.option("--files", "is_listed", is_flag=True, help="List every raw file with its SHA-256.")
@click.option("--json", "is_json", is_flag=True, help="Print the manifest as it is.")
def command(dataset: Path, episode: str, is_listed: bool, is_json: bool) -> None:
    """Say what an episode of the dataset in the folder DATASET was made from.

    EPISODE is its number in the dataset, or the name of the raw episode. Shows raw files with hashes, recipe and digest,
    software, how the rows lie in time, and the videos. `episodeflow check DATASET --provenance` verifies all of it.

    \b
    Example: episodeflow trace ./dataset 17
    Example: episodeflow trace ./dataset episode_0001 --files
    """
    for index in episode_indices(dataset, episode):
        manifest = read_manifest(dataset, index)
        if is_json:
            click.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
        else:
            print_trace(manifest, episode_index=index, is_listed=is_listed)


def episode_indices(dataset: Path, episode: str) -> list[int]:
    """Return the numbers of the episodes that are meant; the same raw episode may be in with several strategies or sources.

    Raises:
        BadDataset: the dataset has no such episode, or none with a manifest.
    """
    path = dataset / layout.PROVENANCE_PATH
    if not path.is_file():
        raise BadDataset(f"{dataset}: has no {layout.PROVENANCE_PATH}: it is no dataset, or was not made by episodeflow")
    lines = read_lines(path, ProvenanceLine)
    named = [line.episode_index for line in lines if line.episode_id == episode]
    numbered = [line.episode_index for line in lines if episode.isdecimal() and line.episode_index == int(episode)]
    if not named and not numbered:
        known = ", ".join(f"{line.episode_index} ({line.episode_id})" for line in lines[:5])
        raise BadDataset(
            f"{dataset}: has no episode {episode!r} with a manifest (it has {len(lines)}: {known}{', …' if lines[5:] else ''})"
        )
    return numbered or named


def print_trace(manifest: Mapping[str, Any], *, episode_index: int, is_listed: bool, console: Console | None = None) -> None:
    """Print a manifest for a person.

    Args:
        manifest: of one episode.
        episode_index: its number in the dataset.
        is_listed: list every raw file.
        console: where to; None: standard output.
    """
    console = console or Console()
    console.print(Text(f"episode {episode_index}: {manifest.get('episode_id')} of {manifest.get('source')}", style="bold"))
    console.print(_facts(manifest))
    for title, table in (
        ("raw files", _raw(manifest, is_listed=is_listed)),
        ("alignment: distance of rows and samples, jitter (p95) and longest gap in ms", _alignment(manifest)),
        ("videos", _videos(manifest)),
    ):
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)


def _facts(manifest: Mapping[str, Any]) -> Table:
    recipe, software, report = (_section(manifest, key) for key in ("recipe", "software", "alignment"))
    alignment, video = _section(recipe, "alignment"), _section(recipe, "video")
    arms = [str(arm.get("name")) for arm in _section(recipe, "robot").get("arms", [])]
    cameras = [f"{camera.get('name')} ({camera.get('role')})" for camera in recipe.get("cameras", [])]
    libraries = [f"{name} {number}" for name, number in software.items() if isinstance(number, str)]
    table = _table(header=False)
    rows = {
        "digest": manifest.get("digest"),
        "task": manifest.get("task"),
        "strategy": f"{manifest.get('strategy')}, {report.get('timeline')} timeline at {report.get('fps')} fps",
        "rows": f"{report.get('num_rows')}, {report.get('num_dropped')} dropped; SHA-256 {_short(manifest.get('rows'))}",
        "settings": ", ".join(
            f"{key} {value}" for key, value in alignment.items() if key not in {"strategy", "timeline"} and value is not None
        ),
        "video": ", ".join(f"{key} {value}" for key, value in video.items() if value is not None),
        "arms": ", ".join(arms),
        "cameras": ", ".join(cameras),
        "software": ", ".join(libraries),
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(str(value)))
    return table


def _raw(manifest: Mapping[str, Any], *, is_listed: bool) -> Table:
    sections = {**_section(manifest, "raw")}
    metadata = _section(manifest, "metadata")
    table = _table("file", "SHA-256") if is_listed else _table("folder", "files", "first", "last", "SHA-256 of all")
    for kind, digests in sections.items():
        listed = {**digests, **(metadata if kind == "joints" else {})}
        if is_listed:
            for name, digest in sorted(listed.items()):
                table.add_row(Text(f"{kind}/{name}"), Text(str(digest)))
        elif listed:
            names = sorted(listed)
            table.add_row(Text(kind), str(len(names)), Text(names[0]), Text(names[-1]), _short(_digest_of(listed)))
    return table


def _alignment(manifest: Mapping[str, Any]) -> Table:
    table = _table("stream", "samples", "Hz", "p50", "p95", "max", "jitter", "gap", "held", "repeated", "unused", gap=1)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for stream, report in _section(_section(manifest, "alignment"), "streams").items():
        error, jitter = _section(report, "error"), _section(report, "jitter")
        table.add_row(
            Text(stream),
            str(report.get("num_samples")),
            f"{report.get('rate_hz', 0.0):.1f}",
            *(f"{error.get(key, 0.0):.1f}" for key in ("p50_ms", "p95_ms", "max_ms")),
            f"{jitter.get('p95_ms', 0.0):.1f}",
            f"{report.get('max_gap_ms', 0.0):.1f}",
            *(str(report.get(key, 0)) for key in ("num_held", "num_repeated", "num_unused")),
        )
    return table


def _videos(manifest: Mapping[str, Any]) -> Table:
    table = _table("video", "SHA-256")
    for key, digest in _section(manifest, "videos").items():
        table.add_row(Text(key), Text(str(digest)))
    return table


def _digest_of(digests: Mapping[str, Any]) -> str:
    return hashlib.sha256("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()).hexdigest()


def _short(digest: object) -> str:
    return f"{str(digest).removeprefix('sha256:')[:_SHORT_DIGITS]}…" if digest else "not recorded"


def _section(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _table(*headers: str, header: bool = True, gap: int = 2) -> Table:
    table = Table(*(headers or ("", "")), box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=header, header_style="dim")
    for column in table.columns:
        column.overflow = "fold"
    return table
