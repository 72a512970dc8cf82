"""The door to huggingface_hub: one dataset repository on the Hub, or on a server that speaks like it.

Each method is one or a few requests and may be repeated. What is on the Hub is asked, never remembered: that is what makes a
push resumable. Does not know what a dataset consists of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import msgspec
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, close_session, get_session, set_client_factory
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import DatasetInfo, RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    hf_raise_for_status,
)

from shared.errors import Refused
from shared.lerobot.hub_errors import translated
from shared.version import VERSION

MAIN = "main"
_TYPE = "dataset"
_MAX_FILES_AT_ONCE, _MAX_BYTES_AT_ONCE = 32, 64 << 20
"""Of one step of progress; the files of a step go in parallel."""

Content = Path | bytes


class RemoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the repository; ``sha256`` of its content where the Hub stores it apart from git, else ``blob_id``, git's SHA-1."""

    size_bytes: int
    blob_id: str
    sha256: str | None


class Repository:
    """A dataset repository.

    Args:
        repo_id: ``user/name``.
        branch: to which is committed.
        endpoint: address of the Hub; None: HF_ENDPOINT, or the public one.
        token: None: HF_TOKEN, or the login of `hf auth login`.
    """

    def __init__(self, repo_id: str, *, branch: str | None = None, endpoint: str | None = None, token: str | None = None) -> None:
        self._api = HfApi(endpoint=endpoint, token=token, library_name="episodeflow", library_version=VERSION)
        self._repo_id = repo_id
        self._branch = branch or MAIN
        self._token = token
        self._place = f"{repo_id} at {self._api.endpoint}"
        self._speaks_xet: bool | None = None

    @property
    def url(self) -> str:
        """Where a person looks at it."""
        return f"{self._api.endpoint}/datasets/{self._repo_id}"

    def check_writable(self, *, is_private: bool) -> None:
        """Ask whether the token's owner may write here; the repository need not exist.

        Raises:
            Refused: no or a wrong token, one that may only read, somebody else's name, or a public repository where a private
                one is wanted.
            StoreUnavailable: see ``translated``.
        """
        with translated(self._place, "who am I"):
            account = self._api.whoami()
        self._check_account(account)
        with translated(self._place, "look at the repository"):
            try:
                found = self._api.dataset_info(self._repo_id)
            except RepositoryNotFoundError:
                return
            self._api.auth_check(self._repo_id, repo_type=_TYPE, write=True)
        self._check_privacy(found, is_private=is_private)

    def prepare(self, *, is_private: bool) -> None:
        """Make the repository and the branch, where they are not there.

        Raises:
            Refused, StoreUnavailable: see ``translated``; a public repository where a private one is wanted.
        """
        with translated(self._place, "create the repository"):
            self._api.create_repo(self._repo_id, repo_type=_TYPE, private=is_private or None, exist_ok=True)
            found = self._api.dataset_info(self._repo_id)
        self._check_privacy(found, is_private=is_private)
        if self._branch != MAIN:
            with translated(self._place, f"create the branch {self._branch}"):
                self._api.create_branch(self._repo_id, branch=self._branch, repo_type=_TYPE, exist_ok=True)

    def files(self) -> dict[str, RemoteFile]:
        """Return the files of the branch, by path."""
        with translated(self._place, "list the files"):
            tree = self._api.list_repo_tree(self._repo_id, recursive=True, revision=self._branch, repo_type=_TYPE)
            return {
                file.path: RemoteFile(size_bytes=file.size, blob_id=file.blob_id, sha256=file.lfs.sha256 if file.lfs else None)
                for file in tree
                if isinstance(file, RepoFile)
            }

    def text(self, path: str) -> str | None:
        """Return the content of a small file of the branch, or None."""
        with translated(self._place, f"read {path}"), TemporaryDirectory() as folder:
            try:
                found = self._api.hf_hub_download(self._repo_id, path, repo_type=_TYPE, revision=self._branch, local_dir=folder)
            except EntryNotFoundError:
                return None
            return Path(found).read_text(encoding="utf-8", errors="replace")

    def head(self) -> str:
        """Return the branch's commit."""
        with translated(self._place, f"look at the branch {self._branch}"):
            return str(self._api.dataset_info(self._repo_id, revision=self._branch).sha)

    def commit(
        self, contents: Mapping[str, Content], *, deletions: Sequence[str], message: str, on_sent: Callable[[int, int], None]
    ) -> str:
        """Add or replace and remove files in one commit, and return it; content that is on the Hub already is not sent again.

        Args:
            contents: what to add, by path.
            deletions: paths that are there now.
            message: of the commit.
            on_sent: told how many files and bytes more have arrived; they are seen when the commit is done.
        """
        with ExitStack() as stack, translated(self._place, f"send {next(iter(contents), 'the removal of files')}"):
            additions = [CommitOperationAdd(path, self._readable(content, stack)) for path, content in contents.items()]
            for step in _steps(additions):
                self._api.preupload_lfs_files(self._repo_id, step, repo_type=_TYPE, revision=self._branch, free_memory=False, num_threads=4)
                on_sent(len(step), sum(addition.upload_info.size for addition in step))
            found = self._api.create_commit(
                self._repo_id,
                [*(CommitOperationDelete(path, is_folder=False) for path in deletions), *additions],
                commit_message=message,
                repo_type=_TYPE,
                revision=self._branch,
            )
        return found.oid

    def tag(self, name: str, commit_id: str) -> None:
        """Let a tag point to a commit, as it does already or from now on."""
        with translated(self._place, f"set the tag {name}"):
            tags = {tag.name: tag.target_commit for tag in self._api.list_repo_refs(self._repo_id, repo_type=_TYPE).tags}
            if tags.get(name) == commit_id:
                return
            if name in tags:
                with suppress(RevisionNotFoundError):
                    self._api.delete_tag(self._repo_id, tag=name, repo_type=_TYPE)
            self._api.create_tag(self._repo_id, tag=name, revision=commit_id, repo_type=_TYPE)

    def _check_account(self, account: dict[str, Any]) -> None:
        name, token = account["name"], account.get("auth", {}).get("accessToken", {})
        owner = self._repo_id.partition("/")[0]
        roles = {org["name"]: org.get("roleInOrg", "write") for org in account.get("orgs", ())}
        if owner != name and owner not in roles:
            raise Refused(
                f"{self._place}: the token is {name}'s, who may not write below {owner}/: "
                f"choose a repo_id such as {name}/{self._repo_id.partition('/')[2]}, or another token"
            )
        if token.get("role") == "read" or (owner != name and roles[owner] == "read"):
            raise Refused(f"{self._place}: {name}'s token may only read: make one that may write at {self._api.endpoint}/settings/tokens")
        if token.get("role") == "fineGrained" and not _may_write(token.get("fineGrained", {}), (owner, self._repo_id)):
            raise Refused(
                f"{self._place}: {name}'s fine-grained token has no write permission for repositories of {owner}: "
                f"give it at {self._api.endpoint}/settings/tokens"
            )

    def _check_privacy(self, found: DatasetInfo, *, is_private: bool) -> None:
        if is_private and found.private is False:
            raise Refused(
                f"{self._place}: is a public repository, expected a private one: make it private at {self.url}/settings, or push without it"
            )

    def _readable(self, content: Content, stack: ExitStack) -> Path | bytes | BinaryIO:
        """Return a file's content as huggingface_hub takes it: an open file where the server has no Xet storage, since those go as LFS."""
        if isinstance(content, bytes) or self._has_xet():
            return content
        return stack.enter_context(content.open("rb"))

    def _has_xet(self) -> bool:
        if self._speaks_xet is None:
            address = f"{self._api.endpoint}/api/datasets/{self._repo_id}/xet-write-token/{self._branch.replace('/', '%2F')}"
            answer = get_session().get(address, headers=build_hf_headers(token=self._token))
            if answer.status_code not in (404, 405, 501):
                hf_raise_for_status(answer)
            self._speaks_xet = answer.status_code == 200
        return self._speaks_xet


@contextmanager
def session(*, answer_s: float) -> Iterator[None]:
    """Set huggingface_hub up for the block: no request waits for ever, and its progress bars and warnings stay off the terminal.

    Args:
        answer_s: how long a server may be silent; the library's own client would wait without end.
    """
    log = logging.getLogger("huggingface_hub")
    level, is_disabled = log.level, are_progress_bars_disabled()
    client = get_session()
    kind, hooks = type(client), client.event_hooks
    set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=answer_s))
    log.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if not is_disabled:
            enable_progress_bars()
        close_session()


def _may_write(permissions: dict[str, Any], names: tuple[str, ...]) -> bool:
    scopes = [scope.get("permissions", ()) for scope in permissions.get("scoped", ()) if scope.get("entity", {}).get("name") in names]
    return any("repo.write" in allowed for allowed in [permissions.get("global", ()), *scopes])


def _steps(additions: Sequence[CommitOperationAdd]) -> Iterator[list[CommitOperationAdd]]:
    step: list[CommitOperationAdd] = []
    for addition in additions:
        if step and (len(step) == _MAX_FILES_AT_ONCE or sum(one.upload_info.size for one in step) >= _MAX_BYTES_AT_ONCE):
            yield step
            step = []
        step.append(addition)
    if step:
        yield step
