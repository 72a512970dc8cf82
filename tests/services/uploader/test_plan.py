"""What is sent, in which order, and what is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.uploader.plan import INFO, MANIFEST, checked_path, is_complete, manifest_digest, upload_plan
from shared.errors import BadDataset, BadEvent

PART = {"data/a.parquet": 3, "meta/tasks.jsonl": 1, INFO: 2, MANIFEST: 4, "videos/v.mp4": 9}
THERE = {f"t/{path}": size for path, size in PART.items()}


def test_a_fresh_target_gets_data_and_videos_then_meta_then_info() -> None:
    plan = upload_plan(PART, existing={}, prefix="t/", digest="d", existing_digest=None)

    assert [upload.path for upload in plan.uploads] == ["data/a.parquet", "videos/v.mp4", MANIFEST, "meta/tasks.jsonl"]
    assert plan.last.key == f"t/{INFO}"
    assert (plan.is_skipped, plan.first_removed, plan.removed) == (False, None, ())


def test_the_same_digest_in_a_whole_target_is_skipped() -> None:
    assert upload_plan(PART, existing=THERE, prefix="t/", digest="d", existing_digest="d").is_skipped


def test_another_digest_removes_info_first_and_stale_keys_too() -> None:
    plan = upload_plan(PART, existing={**THERE, "t/videos/old.mp4": 1}, prefix="t/", digest="d", existing_digest="other")

    assert plan.first_removed == f"t/{INFO}"
    assert plan.removed == ("t/videos/old.mp4",)
    assert len(plan.uploads) == 4


@given(st.sampled_from(sorted(THERE)), st.booleans())
def test_a_target_with_one_file_missing_or_cut_is_sent_again(key: str, is_cut: bool) -> None:
    existing = {name: size for name, size in THERE.items() if name != key} | ({key: 0} if is_cut else {})

    assert not upload_plan(PART, existing=existing, prefix="t/", digest="d", existing_digest="d").is_skipped


def test_a_part_without_info_is_no_dataset() -> None:
    with pytest.raises(BadDataset, match=INFO):
        upload_plan({"data/a": 1}, existing={}, prefix="t/", digest="d", existing_digest=None)


def test_a_target_is_complete_with_info_the_same_digest_and_all_its_bytes() -> None:
    num_bytes = sum(THERE.values())

    assert is_complete(THERE, prefix="t/", digest="d", existing_digest="d", num_bytes=num_bytes)
    assert not is_complete(THERE, prefix="t/", digest="d", existing_digest="e", num_bytes=num_bytes)
    assert not is_complete(THERE, prefix="t/", digest="d", existing_digest="d", num_bytes=num_bytes + 1)
    assert not is_complete({}, prefix="t/", digest="d", existing_digest="d", num_bytes=0)


@pytest.mark.parametrize(("body", "digest"), [(b'{"digest":"d","x":1}', "d"), (b"{}", None), (b"\xff", None), (b'{"digest":1}', None)])
def test_an_unreadable_manifest_has_no_digest(body: bytes, digest: str | None) -> None:
    assert manifest_digest(body) == digest


@pytest.mark.parametrize("path", ["", "/etc", "..", "a/../b", "a//b", "a/.", "a\\b", "a\0b", "a/"])
def test_a_path_that_may_leave_the_spool_is_refused(path: str) -> None:
    with pytest.raises(BadEvent, match="spool"):
        checked_path(path)
