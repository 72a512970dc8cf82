"""An uploader that is killed in the middle of an upload: the next one completes it, and nothing of the first stays."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

from cli.s3_server import S3Server
from services.uploader.plan import INFO, MANIFEST
from shared.events import EpisodeConverted
from tests.e2e.faults import SOURCE, Lab, opened_lab, until

NUM_VIDEO_BYTES = 96 * 1024 * 1024
PATH = f"{SOURCE}/e1_nearest/0123"


def put_part(spool: Path) -> None:
    """Leave a dataset in the spool whose video takes a while."""
    for path, body in ((INFO, b"{}"), ("data/a.parquet", b"rows"), (MANIFEST, b'{"digest": "sha256:a"}'), ("videos/a.mp4", b"")):
        target = spool / PATH / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    os.truncate(spool / PATH / "videos/a.mp4", NUM_VIDEO_BYTES)


async def killed_in_the_middle(lab: Lab, is_uploading: Any) -> None:
    await asyncio.to_thread(put_part, lab.spool)
    fields: dict[str, Any] = {"path": PATH, "frames": 1, "duration_s": 1.0, "num_bytes": 1, "digest": "sha256:a"}
    await lab.bus.publish(
        EpisodeConverted(episode_id="e1", source=SOURCE, strategy="nearest", spool="default", **fields), message_id="converted"
    )
    uploader = lab.services["uploader"]
    await uploader.start()
    await until(is_uploading, deadline_s=30)
    await uploader.kill()
    assert await is_uploading(), "the kill came too late to prove anything"
    await uploader.start()

    async def is_uploaded() -> bool:
        return bool(await lab.num_on("uploaded") and not await lab.num_unsettled())

    await until(is_uploaded, deadline_s=60)
    await uploader.stop()


async def test_parts_in_a_bucket_are_thrown_away_and_the_dataset_is_completed(tmp_path: Path, s3_server: S3Server) -> None:
    async with opened_lab(tmp_path / f"parts-{uuid.uuid4().hex[:8]}", s3_server, seed=1) as lab:
        await killed_in_the_middle(lab, lab.multipart_uploads)

        assert len(await lab.datasets()) == 4
        assert await lab.multipart_uploads() == []
        assert lab.leftovers() == []


async def test_a_hidden_copy_in_a_folder_store_is_swept_and_the_dataset_is_completed(tmp_path: Path, s3_server: S3Server) -> None:
    store = tmp_path / "store"
    async with opened_lab(tmp_path / f"folder-{uuid.uuid4().hex[:8]}", s3_server, seed=1, store=store.as_uri()) as lab:

        async def hidden() -> list[Path]:
            return await asyncio.to_thread(lambda: list(store.glob("converted_datas/.part-*")))

        await killed_in_the_middle(lab, hidden)

        assert [path.name for path in (store / "converted_datas").iterdir()] == ["e1_nearest"]
        assert (store / "converted_datas/e1_nearest/videos/a.mp4").stat().st_size == NUM_VIDEO_BYTES
        assert lab.leftovers() == []
