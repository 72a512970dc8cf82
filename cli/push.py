"""`episodeflow push`: a dataset onto the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from shared.lerobot.card import DEFAULT_LICENSE

if TYPE_CHECKING:
    from shared.lerobot.hub import Progress, Pushed


@click.command("push")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--repo_id", "--repo-id", "repo_id", required=True, metavar="USER/NAME", help="Repository; it is made if it is not there.")
@click.option("--private", "is_private", is_flag=True, help="Make it a private one; an existing public one is refused.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="For the dataset's card, besides LeRobot; may be repeated.")
@click.option("--license", "license_id", default=DEFAULT_LICENSE, show_default=True, metavar="ID", help="For the dataset's card.")
@click.option("--branch", metavar="NAME", help="Branch to commit to. [default: main]")
@click.option(
    "--deadline", "deadline_s", default=600.0, show_default=True, metavar="SECONDS", help="Give up when nothing has arrived for so long."
)
def command(
    dataset: Path, repo_id: str, is_private: bool, tags: tuple[str, ...], license_id: str, branch: str | None, deadline_s: float
) -> None:
    """Bring the whole LeRobot v2.1 dataset in the folder DATASET to the Hugging Face Hub, under the version tag that LeRobot looks for.

    Sends only what the Hub does not have; stopped anywhere, run it again. Log in before with `hf auth login`, or export
    HF_TOKEN. HF_ENDPOINT names another Hub than the public one.

    \b
    Example: episodeflow push ./dataset --repo_id user/stack-blocks --private
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # huggingface_hub reads it when it is imported
    from shared.lerobot.hub import HubTarget, Patience, check_access, push_dataset  # noqa: PLC0415 - the help needs no library

    target = HubTarget(repo_id=repo_id, is_private=is_private, tags=tags, license_id=license_id, revision=branch)
    check_access(target)
    with PushBar(Console(stderr=True)) as bar:
        pushed = push_dataset(dataset, target, on_progress=bar.show, patience=Patience(deadline_s=deadline_s))
    click.echo(f"{dataset}: {sentence(pushed)}")


def sentence(pushed: Pushed) -> str:
    """Return what a push did, for a person."""
    if not pushed.num_files:
        return f"is at {pushed.url} already (commit {pushed.revision[:7]})"
    return f"pushed to {pushed.url} (commit {pushed.revision[:7]}): {pushed.num_files} files, {pushed.num_bytes / 1e6:.1f} MB"


class PushBar:
    """One bar in bytes, and a line whenever the Hub has to be waited for.

    Args:
        console: where it is drawn; where that is no terminal, only the lines are.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Bar(
            TextColumn("{task.fields[files]} files"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("push", total=None, files="0")

    def __enter__(self) -> PushBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw how far the push is."""
        if progress.waiting is not None:
            self._console.print(f"waiting: {progress.waiting}", markup=False, highlight=False, soft_wrap=True)
        files = f"{progress.num_files}/{progress.total_files}"
        self._bar.update(self._task, completed=progress.num_bytes, total=progress.total_bytes, files=files)
