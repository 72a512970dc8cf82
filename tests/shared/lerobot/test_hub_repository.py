"""Who may write to a repository, asked before anything is recorded or sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from shared.errors import Refused
from shared.lerobot.hub_repository import Repository
from tests.hub_server import TOKEN, Fault, HubServer, Repo, hub_server


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


def check(hub: HubServer, repo_id: str, *, token: str = TOKEN) -> None:
    Repository(repo_id, endpoint=hub.url, token=token).check_writable(is_private=False)


def token(role: str, **more: Any) -> dict[str, Any]:
    return {"accessToken": {"role": role, **more}}


def test_own_and_organization_names_are_fine_whether_the_repository_is_there_or_not(hub: HubServer) -> None:
    hub.repos["user/there"] = Repo()

    for repo_id in ("user/there", "user/new", "lab/new"):
        check(hub, repo_id)

    assert {method for method, _ in hub.requests} == {"GET"}
    assert hub.requested("GET", "there/auth-check/write") == 1


@pytest.mark.parametrize(
    ("repo_id", "sentence"),
    [
        ("other/cubes", r"the token is user's, who may not write below other/: choose a repo_id such as user/cubes"),
        ("readers/cubes", r"user's token may only read"),
    ],
)
def test_name_of_somebody_else_is_refused(hub: HubServer, repo_id: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        check(hub, repo_id)


def test_token_that_may_only_read_is_refused(hub: HubServer) -> None:
    hub.account["auth"] = token("read")

    with pytest.raises(Refused, match=r"user's token may only read"):
        check(hub, "user/cubes")


@pytest.mark.parametrize(
    ("permissions", "is_enough"),
    [
        (
            {"global": [], "scoped": [{"entity": {"type": "user", "name": "user"}, "permissions": ["repo.content.read", "repo.write"]}]},
            True,
        ),
        ({"scoped": [{"entity": {"type": "dataset", "name": "user/cubes"}, "permissions": ["repo.write"]}]}, True),
        ({"scoped": [{"entity": {"type": "org", "name": "lab"}, "permissions": ["repo.write"]}]}, False),
        ({"scoped": [{"entity": {"type": "user", "name": "user"}, "permissions": ["repo.content.read"]}]}, False),
        ({}, False),
    ],
)
def test_fine_grained_token_needs_write_permission_for_this_owner(hub: HubServer, permissions: dict[str, Any], is_enough: bool) -> None:
    hub.account["auth"] = token("fineGrained", fineGrained=permissions)

    found = None
    try:
        check(hub, "user/cubes")
    except Refused as error:
        found = str(error)

    assert (found is None) == is_enough
    assert is_enough or "fine-grained token has no write permission for repositories of user" in str(found)


def test_wrong_token_is_one_sentence(hub: HubServer) -> None:
    with pytest.raises(Refused, match=r"who am I: 401.*the token is not valid: log in with `hf auth login`"):
        check(hub, "user/cubes", token="hf_wrong")


def test_repository_that_refuses_this_token_is_one_sentence(hub: HubServer) -> None:
    hub.repos["user/cubes"] = Repo()
    hub.faults.append(Fault("GET", "/auth-check/write", status=403))

    with pytest.raises(Refused, match=r"look at the repository: 403.*this token may not do that"):
        check(hub, "user/cubes")
