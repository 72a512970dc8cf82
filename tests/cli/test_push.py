"""`episodeflow push` as a process, with its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.push import command
from shared.lerobot.commit import commit
from tests.hub_server import TOKEN, Fault, HubServer, hub_server
from tests.shared.lerobot.parts import make_part, tree

ROOT = Path(__file__).parents[2]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for seed in range(2):
        make_part(tmp_path / f"part{seed}", seed=seed)
        commit(tmp_path / f"part{seed}", tmp_path / "dataset")
    return tmp_path / "dataset"


def push(hub: HubServer, dataset: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    home = dataset.parent / "home"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    arguments = [sys.executable, "-c", "from cli.main import main; main()", "push", str(dataset), "--repo_id", "user/cubes", *options]
    return subprocess.Popen(
        arguments,
        cwd=ROOT,
        env={**kept, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=60)
    return process.returncode, output, errors


def test_dataset_is_pushed_and_pushing_it_again_says_so(hub: HubServer, dataset: Path) -> None:
    first = outcome(push(hub, dataset, "--private", "--tag", "cubes", HF_TOKEN=TOKEN))
    second = outcome(push(hub, dataset, "--private", "--tag", "cubes", HF_TOKEN=TOKEN))

    commit_id = hub.repos["user/cubes"].tags["v2.1"][:7]
    assert (first[0], first[2], second[0], second[2]) == (0, "", 0, "")
    assert first[1].startswith(f"{dataset}: pushed to {hub.url}/datasets/user/cubes (commit ")
    assert second[1] == f"{dataset}: is at {hub.url}/datasets/user/cubes already (commit {commit_id})\n"
    assert hub.repos["user/cubes"].is_private


def test_push_killed_in_the_middle_is_finished_by_the_next(hub: HubServer, dataset: Path) -> None:
    held = Fault("PUT", "^/lfs/", is_held=True)
    hub.faults.append(held)
    killed = push(hub, dataset, HF_TOKEN=TOKEN)
    was_reached = held.reached.wait(60)
    killed.kill()
    killed_status = outcome(killed)[0]
    held.released.set()
    stored = len(hub.objects)
    code, _, errors = outcome(push(hub, dataset, HF_TOKEN=TOKEN))

    assert (was_reached, killed_status) == (True, -9)
    assert stored < 4
    assert (code, errors) == (0, "")
    files = hub.repos["user/cubes"].files("v2.1")
    assert {path: files[path] for path in tree(dataset)} == tree(dataset)
    assert hub.requested("PUT", "^/lfs/") <= 4 + 4 - stored


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "no token: log in with `hf auth login`, or export HF_TOKEN"),
        ({"HF_TOKEN": "hf_wrong"}, "the token is not valid"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({"HF_TOKEN": TOKEN, "HF_ENDPOINT": "http://127.0.0.1:9"}, "is the network up, and HF_ENDPOINT (if set) right?"),
    ],
    ids=["no-token", "wrong-token", "offline", "away"],
)
def test_push_that_cannot_work_is_one_sentence_before_anything_is_sent(
    hub: HubServer, dataset: Path, environment: dict[str, str], sentence: str
) -> None:
    code, output, errors = outcome(push(hub, dataset, **environment))

    assert (code, output) == (1, "")
    assert errors.startswith("error: user/cubes at http://127.0.0.1:")
    assert sentence in errors
    assert errors.count("\n") == 1
    assert hub.repos == {}


def test_without_the_library_it_says_what_to_install(hub: HubServer, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'huggingface_hub'\", name='huggingface_hub')\n"
    )

    code, _, errors = outcome(push(hub, dataset, PYTHONPATH=str(tmp_path), HF_TOKEN=TOKEN))

    assert code == 1
    assert "pip install 'episodeflow[hub]'" in errors


def test_repository_must_be_named(dataset: Path) -> None:
    result = CliRunner().invoke(command, [str(dataset)])

    assert result.exit_code == 2
    assert "--repo_id" in result.output
