"""A dataset on the Hugging Face Hub: the whole of it, under the version tag that LeRobot looks for.

Theory of operation. A push compares: it lists what the repository holds, hashes what could be the same, and sends what
differs, in commits whose last one brings ``meta/info.json``. Nothing is remembered between runs, and a failed attempt is
followed by a comparison too; so a push that was cut off anywhere, by a network or a power failure, is finished by the next.
LeRobot reads the tag, which moves when everything is there: until then it sees the state before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from shared.errors import BadConfig, BadDataset, Refused, StoreUnavailable
from shared.lerobot.card import CARD_PATH, DEFAULT_LICENSE, card_text, is_ours
from shared.lerobot.hub_plan import MAX_FILES_PER_FOLDER, Commit, commits, crowded_folder, stale_paths
from shared.lerobot.snapshot import Snapshot, snapshot
from shared.settings import Secret

if TYPE_CHECKING:
    from shared.lerobot.hub_repository import Content, RemoteFile, Repository

MAX_FILES_PER_COMMIT = 100
"""What the Hub recommends: it answers larger commits with a time-out."""
_MAX_BYTES_PER_COMMIT = 2 << 30


class HubTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Where a dataset is pushed to.

    Attributes:
        repo_id: ``user/name``.
        is_private: whether the repository is to be private; an existing public one is refused then.
        tags: for the dataset's card, besides ``LeRobot``.
        license_id: for the card.
        revision: branch to commit to; None: ``main``.
        endpoint: the Hub's address; None: HF_ENDPOINT, or the public one.
        token: None: HF_TOKEN, or the login of `hf auth login`.
    """

    repo_id: str
    is_private: bool = False
    tags: tuple[str, ...] = ()
    license_id: str = DEFAULT_LICENSE
    revision: str | None = None
    endpoint: str | None = None
    token: Secret | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the Hub is asked again.

    Attributes:
        deadline_s: without anything having arrived.
        first_delay_s: before the second attempt; it doubles from then on.
        max_delay_s: between two attempts.
        answer_s: how long a request may go without a sign of life.
    """

    deadline_s: float = 600.0
    first_delay_s: float = 1.0
    max_delay_s: float = 60.0
    answer_s: float = 120.0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a push is; ``waiting`` is why it does not go on at the moment."""

    num_files: int
    total_files: int
    num_bytes: int
    total_bytes: int
    waiting: str | None = None


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What a push did: the commit that the tag points to, and what had to be sent for it."""

    url: str
    revision: str
    num_files: int
    num_bytes: int


_CHECK_ANSWER_S = 20.0
"""Somebody stands before a robot and waits."""

OnProgress = Callable[[Progress], None]


def check_access(target: HubTarget) -> None:
    """Find out now whether a push could work later; asks the Hub once or twice and changes nothing.

    Raises:
        BadConfig: no ``user/name``.
        Refused: huggingface_hub is not installed, no or a wrong token, no permission, or offline mode.
        StoreUnavailable: the Hub does not answer.
    """
    with _repository(target, answer_s=_CHECK_ANSWER_S) as repository:
        repository.check_writable(is_private=target.is_private)


def push_dataset(
    folder: Path,
    target: HubTarget,
    *,
    on_progress: OnProgress,
    patience: Patience | None = None,
    max_files_per_commit: int = MAX_FILES_PER_COMMIT,
) -> Pushed:
    """Bring the whole dataset in ``folder`` to the Hub, and let the version tag point to it.

    Other processes may commit to the dataset meanwhile; what they add is left for the next push.

    Args:
        folder: the dataset.
        target: where to.
        on_progress: told how far it is; whatever it raises ends the push.
        patience: how long the Hub is asked again.
        max_files_per_commit: how much is sent before it is seen.

    Raises:
        BadDataset: the folder holds no complete LeRobot v2.1 dataset.
        BadConfig, Refused: see ``check_access``.
        StoreUnavailable: nothing has arrived for ``patience.deadline_s``; run it again, what has arrived stays.
    """
    patience = patience or Patience()
    with snapshot(folder) as taken, _repository(target, answer_s=patience.answer_s) as repository:
        crowded = crowded_folder(taken.files)
        if crowded is not None:
            raise Refused(
                f"{folder}: {crowded[0]}/ has {crowded[1]} files, but the Hub takes at most {MAX_FILES_PER_FOLDER} per folder: push a part"
            )
        push = _Push(taken, target, repository, on_progress=on_progress, max_files=max_files_per_commit)
        return push.run(patience)


@contextmanager
def _repository(target: HubTarget, *, answer_s: float) -> Iterator[Repository]:
    owner, _, name = target.repo_id.partition("/")
    if not owner or not name or "/" in name:
        raise BadConfig("repo_id", "", f"is {target.repo_id!r}, expected user/name as the Hub has it")
    try:
        from shared.lerobot.hub_repository import Repository, session  # noqa: PLC0415 - an optional library
    except ModuleNotFoundError as error:
        raise Refused(f"huggingface_hub is not installed ({error}): pip install 'episodeflow[hub]'") from error
    token = target.token.reveal() if target.token else None
    with session(answer_s=answer_s):
        yield Repository(target.repo_id, branch=target.revision, endpoint=target.endpoint, token=token)


class _Push:
    """One push: its attempts, and what they know of the local files."""

    def __init__(self, taken: Snapshot, target: HubTarget, repository: Repository, *, on_progress: OnProgress, max_files: int) -> None:
        self._taken = taken
        self._target = target
        self._repository = repository
        self._on_progress = on_progress
        self._max_files = max_files
        self._contents: dict[str, Content] = dict(taken.files)
        self._sha256_by_path: dict[str, str] = {}
        self._num_files = self._num_bytes = self._most_files = 0
        self._total_files = self._total_bytes = 0
        self._arrived_s = time.monotonic()

    def run(self, patience: Patience) -> Pushed:
        """Attempt it until it is done, or nothing has arrived for too long."""
        delay_s, seen_s = patience.first_delay_s, self._arrived_s
        while True:
            try:
                return self._attempt()
            except StoreUnavailable as error:
                if self._arrived_s > seen_s:
                    delay_s, seen_s = patience.first_delay_s, self._arrived_s
                if time.monotonic() + delay_s - seen_s > patience.deadline_s:
                    raise StoreUnavailable(
                        f"{error}; gave up after {patience.deadline_s:g} s: push again later, what has arrived stays"
                    ) from error
                self._tell(waiting=str(error))
            time.sleep(delay_s)
            delay_s = min(2 * delay_s, patience.max_delay_s)

    def _attempt(self) -> Pushed:
        self._repository.prepare(is_private=self._target.is_private)
        remote = self._repository.files()
        self._add_card(is_there=CARD_PATH in remote)
        sizes = {path: _size_bytes(content) for path, content in self._contents.items()}
        differing = {path: size for path, size in sizes.items() if not self._is_same(path, size, remote.get(path))}
        self._total_files = self._num_files + len(differing)
        self._total_bytes = self._num_bytes + sum(differing.values())
        self._tell()
        revision = None
        stale = stale_paths(remote, self._contents)
        for commit in commits(differing, stale, max_files=self._max_files, max_bytes=_MAX_BYTES_PER_COMMIT):
            revision = self._commit(commit)
        revision = revision or self._repository.head()
        self._repository.tag(self._taken.info.codebase_version, revision)
        return Pushed(url=self._repository.url, revision=revision, num_files=self._num_files, num_bytes=self._num_bytes)

    def _add_card(self, *, is_there: bool) -> None:
        """Take the folder's own card, else write one over ours or over none; never over somebody's words on the Hub."""
        if CARD_PATH in self._taken.files:
            return
        self._contents.pop(CARD_PATH, None)
        written = self._repository.text(CARD_PATH) if is_there else None
        if written is None or is_ours(written):
            card = card_text(self._taken.info, tags=self._target.tags, license_id=self._target.license_id)
            self._contents[CARD_PATH] = card.encode()

    def _commit(self, commit: Commit) -> str:
        num_files, num_bytes = self._num_files, self._num_bytes
        try:
            revision = self._repository.commit(
                {path: self._contents[path] for path in commit.additions},
                deletions=commit.deletions,
                message=self._message(commit),
                on_sent=self._count,
            )
        except StoreUnavailable:
            self._num_files, self._num_bytes = num_files, num_bytes  # nobody can see them yet
            raise
        self._arrived_s = time.monotonic()
        return revision

    def _message(self, commit: Commit) -> str:
        info = self._taken.info
        part = f"{len(commit.additions)} files for " if CARD_PATH not in commit.additions else ""
        return f"episodeflow: {part}{info.total_episodes} episodes, {info.total_frames} frames"

    def _count(self, num_files: int, num_bytes: int) -> None:
        self._num_files += num_files
        self._num_bytes += num_bytes
        if self._num_files > self._most_files:  # a file that arrived in a failed attempt is counted again, but is no progress
            self._most_files, self._arrived_s = self._num_files, time.monotonic()
        self._tell()

    def _tell(self, *, waiting: str | None = None) -> None:
        self._on_progress(
            Progress(
                num_files=self._num_files,
                total_files=self._total_files,
                num_bytes=self._num_bytes,
                total_bytes=self._total_bytes,
                waiting=waiting,
            )
        )

    def _is_same(self, path: str, size_bytes: int, remote: RemoteFile | None) -> bool:
        if remote is None or remote.size_bytes != size_bytes:
            return False
        content = self._contents[path]
        if remote.sha256 is None:
            return _blob_id(content) == remote.blob_id
        if path not in self._sha256_by_path:
            self._sha256_by_path[path] = _sha256(content)
        return self._sha256_by_path[path] == remote.sha256


def _size_bytes(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    try:
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadDataset(f"{content}: cannot be read ({error.strerror}), expected a file of the dataset that is being pushed") from error


def _blob_id(content: Content) -> str:
    """Return git's name of a file's content."""
    whole = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(whole) + whole, usedforsecurity=False).hexdigest()
