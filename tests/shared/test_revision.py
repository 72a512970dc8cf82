"""The revision of an episode changes with every name, size and mark, and with nothing else."""

from __future__ import annotations

import msgspec

from shared.revision import Revision
from shared.store_object import ObjectInfo

INFO = ObjectInfo(key="raw/e1/a", size_bytes=3, modified_s=5.0, etag="abc")


def revision_of(*listed: tuple[ObjectInfo, str]) -> str:
    revision = Revision()
    for info, tail in listed:
        revision.add(info, tail)
    return revision.text


def test_the_place_and_the_time_do_not_matter_where_the_store_marks_contents() -> None:
    moved = msgspec.structs.replace(INFO, key="elsewhere/a", modified_s=9.0)

    assert revision_of((INFO, "a")) == revision_of((moved, "a"))
    assert len(revision_of((INFO, "a"))) == 16


def test_name_size_mark_and_number_of_objects_matter() -> None:
    others = [
        revision_of((INFO, "b")),
        revision_of((msgspec.structs.replace(INFO, size_bytes=4), "a")),
        revision_of((msgspec.structs.replace(INFO, etag="abd"), "a")),
        revision_of((msgspec.structs.replace(INFO, etag=None), "a")),
        revision_of((msgspec.structs.replace(INFO, etag=None, modified_s=6.0), "a")),
        revision_of((INFO, "a"), (INFO, "b")),
        revision_of((INFO, "a")),
    ]

    assert len(set(others)) == 7
