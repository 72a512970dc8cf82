"""Pushing a dataset: against a local server that speaks the Hub's calls and fails on demand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import msgspec
import pytest

from shared.errors import BadConfig, BadDataset, Refused, StoreUnavailable
from shared.lerobot import layout
from shared.lerobot.card import is_ours
from shared.lerobot.commit import commit
from shared.lerobot.hub import HubTarget, Patience, Progress, check_access, push_dataset
from shared.settings import Secret
from tests.hub_server import TOKEN, Fault, HubServer, hub_server
from tests.shared.lerobot.parts import make_part, tree

# huggingface_hub sends LFS objects with an argument that its own HTTP client deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

PATIENCE = Patience(deadline_s=30, first_delay_s=0.01, max_delay_s=0.05)
REPO = "user/cubes"
LFS = r"^/lfs/"
COMMIT = "/commit/"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    for seed in range(4):
        make_part(folder / f"part{seed}", seed=seed)
    return [folder / f"part{seed}" for seed in range(4)]


@pytest.fixture(scope="module")
def three_episodes(tmp_path_factory: pytest.TempPathFactory, parts: list[Path]) -> Path:
    folder = tmp_path_factory.mktemp("three") / "dataset"
    for part in parts[:3]:
        commit(part, folder)
    return folder


@pytest.fixture
def dataset(tmp_path: Path, three_episodes: Path) -> Path:
    return shutil.copytree(three_episodes, tmp_path / "dataset")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        yield server


def target(hub: HubServer, *, is_private: bool = False, repo_id: str = REPO, revision: str | None = None) -> HubTarget:
    return HubTarget(repo_id=repo_id, endpoint=hub.url, token=Secret(TOKEN), is_private=is_private, tags=("cubes",), revision=revision)


def silent(progress: Progress) -> None:
    pass


def assert_holds(hub: HubServer, dataset: Path, revision: str = layout.CODEBASE_VERSION) -> None:
    """Compare what the server holds with the folder, byte for byte."""
    held = {path: content for path, content in hub.repos[REPO].files(revision).items() if path not in (".gitattributes", "README.md")}
    assert held == tree(dataset)


def num_stored(hub: HubServer) -> int:
    """Return how many objects were sent."""
    return hub.requested("PUT", LFS)


def test_repository_holds_the_folder_with_a_card_under_the_version_tag(hub: HubServer, dataset: Path) -> None:
    told: list[Progress] = []

    pushed = push_dataset(dataset, target(hub), on_progress=told.append, patience=PATIENCE)

    repo = hub.repos[REPO]
    assert_holds(hub, dataset)
    assert repo.tags == {"v2.1": repo.branches["main"]} == {"v2.1": pushed.revision}
    card = repo.files()["README.md"].decode()
    assert "- LeRobot\n- cubes\n" in card
    assert is_ours(card)
    assert pushed.url == f"{hub.url}/datasets/{REPO}"
    assert pushed.num_files == len(tree(dataset)) + 1
    assert (told[-1].num_files, told[-1].num_bytes) == (told[-1].total_files, told[-1].total_bytes) == (pushed.num_files, pushed.num_bytes)
    assert len(repo.history) == 2


def test_lerobots_own_lookup_gives_the_dataset_back(hub: HubServer, dataset: Path, tmp_path: Path) -> None:
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    api = huggingface_hub.HfApi(endpoint=hub.url, token=TOKEN)

    names = [ref.name for ref in api.list_repo_refs(REPO, repo_type="dataset").tags]
    api.snapshot_download(REPO, repo_type="dataset", revision="v2.1", local_dir=tmp_path / "pulled", max_workers=2)

    assert names == ["v2.1"]
    pulled = tree(tmp_path / "pulled")
    assert {path: pulled[path] for path in tree(dataset)} == tree(dataset)


def test_second_push_sends_only_the_new_episode_and_moves_the_tag(hub: HubServer, dataset: Path, parts: list[Path]) -> None:
    first = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    num_first = num_stored(hub)
    commit(parts[3], dataset)

    second = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert_holds(hub, dataset)
    assert num_stored(hub) - num_first == 2  # one table, one video
    assert second.revision != first.revision
    assert hub.repos[REPO].tags == {"v2.1": second.revision}


def test_push_of_what_is_there_changes_nothing(hub: HubServer, dataset: Path) -> None:
    first = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    num_commits = hub.requested("POST", COMMIT)

    second = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert (second.revision, second.num_files, second.num_bytes) == (first.revision, 0, 0)
    assert hub.requested("POST", COMMIT) == num_commits
    assert hub.requested("DELETE", "/tag/") == 0


def test_file_that_changed_without_changing_its_size_is_sent(hub: HubServer, dataset: Path) -> None:
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    video = dataset / layout.video_path("observation.images.front", 1)
    video.write_bytes(video.read_bytes()[::-1])

    pushed = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert pushed.num_files == 1
    assert_holds(hub, dataset)


def test_metadata_becomes_visible_only_after_all_it_speaks_of(hub: HubServer, dataset: Path, parts: list[Path]) -> None:
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE, max_files_per_commit=2)
    commit(parts[3], dataset)

    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE, max_files_per_commit=2)

    states = hub.repos[REPO].history
    assert len(states) > 6
    for files in states:
        lines = files.get(layout.EPISODES_PATH, b"").count(b"\n")
        assert (layout.INFO_PATH in files) == (lines > 0)
        assert {layout.data_path(index) for index in range(lines)} <= set(files)
        assert {layout.video_path("observation.images.front", index) for index in range(lines)} <= set(files)
    assert_holds(hub, dataset)


def test_files_the_dataset_no_longer_has_are_removed_and_others_left(hub: HubServer, dataset: Path) -> None:
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    extra = {"data/chunk-000/old.parquet": b"x", "videos/old.mp4": b"x", "meta/stats.json": b"{}"}
    repo = hub.repos[REPO]
    repo.branches["main"] = repo.add({**repo.files(), **extra, "demo.gif": b"GIF"})

    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert not set(extra) & set(repo.files())
    assert repo.files()["demo.gif"] == b"GIF"


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", COMMIT, status=500),
        Fault("POST", COMMIT, status=429, times=3),
        Fault("POST", COMMIT, status=412),
        Fault("POST", COMMIT),
        Fault("POST", COMMIT, is_late=True),
        Fault("POST", COMMIT, status=504, is_late=True),
        Fault("POST", "/api/repos/create", status=503),
        Fault("POST", "/api/validate-yaml", status=502),
        Fault("GET", "/refs", status=500),
        Fault("POST", "/tag/", status=500),
        Fault("POST", "/tag/", is_late=True),
        Fault("PUT", LFS, status=500),
        Fault("PUT", LFS),
        Fault("POST", "/preupload/", status=429),
    ],
    ids=lambda fault: f"{fault.method}-{fault.path.pattern.strip('^/')}-{fault.status or 'cut'}{'-late' if fault.is_late else ''}",
)
def test_failure_that_passes_is_waited_out(hub: HubServer, dataset: Path, fault: Fault) -> None:
    hub.faults.append(fault)
    is_found_done = fault.is_late and fault.path.pattern == COMMIT  # the second attempt has nothing left to send

    pushed = push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert fault.times == 0
    assert pushed.num_files == (0 if is_found_done else len(tree(dataset)) + 1)
    assert_holds(hub, dataset)
    assert len(hub.repos[REPO].history) == 2  # no commit twice


def test_hub_that_stays_away_is_given_up_with_one_sentence(hub: HubServer, dataset: Path) -> None:
    hub.faults.append(Fault("POST", COMMIT, status=503, times=10_000))
    told: list[Progress] = []

    with pytest.raises(StoreUnavailable, match=r"503 .*gave up after 0.2 s: push again later, what has arrived stays"):
        push_dataset(dataset, target(hub), on_progress=told.append, patience=Patience(deadline_s=0.2, first_delay_s=0.01, max_delay_s=0.05))

    assert any("503" in (progress.waiting or "") for progress in told)
    assert hub.repos[REPO].tags == {}


def test_hub_that_falls_silent_is_asked_again(hub: HubServer, dataset: Path) -> None:
    silence = Fault("POST", COMMIT, is_held=True)
    hub.faults.append(silence)

    try:
        push_dataset(dataset, target(hub), on_progress=silent, patience=msgspec.structs.replace(PATIENCE, answer_s=0.5))
    finally:
        silence.released.set()

    assert silence.reached.is_set()
    assert_holds(hub, dataset)


def test_push_that_was_cut_off_is_finished_by_the_next_without_sending_anything_twice(hub: HubServer, dataset: Path) -> None:
    class CutOff(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.num_files >= 3:
            raise CutOff

    with pytest.raises(CutOff):
        push_dataset(dataset, target(hub), on_progress=cut, patience=PATIENCE, max_files_per_commit=2)
    at_the_cut = num_stored(hub)
    tags_at_the_cut = dict(hub.repos[REPO].tags)
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE, max_files_per_commit=2)

    assert 0 < at_the_cut < 6
    assert tags_at_the_cut == {}
    assert num_stored(hub) == 6  # three tables, three videos
    assert_holds(hub, dataset)


def test_episode_that_is_committed_during_the_push_waits_for_the_next(hub: HubServer, dataset: Path, parts: list[Path]) -> None:
    before = tree(dataset)

    def grow(progress: Progress) -> None:
        commit(parts[3], dataset)

    push_dataset(dataset, target(hub), on_progress=grow, patience=PATIENCE)
    held = dict(hub.repos[REPO].files())
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert {path: held[path] for path in before} == before
    assert len(held) == len(before) + 2
    assert len(tree(dataset)) > len(before)
    assert_holds(hub, dataset)


def test_card_that_somebody_edited_on_the_hub_stays(hub: HubServer, dataset: Path) -> None:
    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)
    repo = hub.repos[REPO]
    repo.branches["main"] = repo.add({**repo.files(), "README.md": b"# Our cubes\n"})

    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert repo.files()["README.md"] == b"# Our cubes\n"


def test_card_in_the_folder_is_the_card(hub: HubServer, dataset: Path) -> None:
    (dataset / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")

    push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert hub.repos[REPO].files()["README.md"] == b"---\nlicense: mit\n---\n# Mine\n"


def test_branch_is_made_and_the_tag_points_to_it(hub: HubServer, dataset: Path) -> None:
    pushed = push_dataset(dataset, target(hub, revision="next"), on_progress=silent, patience=PATIENCE)

    repo = hub.repos[REPO]
    assert repo.branches["next"] == pushed.revision == repo.tags["v2.1"]
    assert layout.INFO_PATH not in repo.files("main")


def test_private_repository_is_made_private_and_an_existing_public_one_refused(hub: HubServer, dataset: Path) -> None:
    push_dataset(dataset, target(hub, is_private=True), on_progress=silent, patience=PATIENCE)
    push_dataset(dataset, target(hub, repo_id="lab/open"), on_progress=silent, patience=PATIENCE)

    assert (hub.repos[REPO].is_private, hub.repos["lab/open"].is_private) == (True, False)
    with pytest.raises(Refused, match=r"lab/open .*is a public repository, expected a private one"):
        push_dataset(dataset, target(hub, repo_id="lab/open", is_private=True), on_progress=silent, patience=PATIENCE)
    with pytest.raises(Refused, match=r"lab/open .*is a public repository, expected a private one"):
        check_access(target(hub, repo_id="lab/open", is_private=True))


def test_broken_dataset_never_reaches_the_hub(hub: HubServer, dataset: Path) -> None:
    (dataset / layout.data_path(1)).unlink()

    with pytest.raises(BadDataset, match=r"episode_000001.parquet is missing"):
        push_dataset(dataset, target(hub), on_progress=silent, patience=PATIENCE)

    assert hub.requests == []


@pytest.mark.parametrize("repo_id", ["cubes", "user/", "/cubes", "user/cubes/more", "user/cu bes", "user/-cubes-"])
def test_name_that_is_none_is_refused(hub: HubServer, repo_id: str) -> None:
    with pytest.raises(BadConfig, match=r"expected user/name"):
        check_access(target(hub, repo_id=repo_id))
