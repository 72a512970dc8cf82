"""The table of users and subjects, and its text. What it means to a server stands in tests/e2e/test_security.py."""

from __future__ import annotations

from fnmatch import fnmatchcase

from shared.config import StorageConfig
from shared.permissions import ADMIN, LIMITED_USERS, User, inbox_prefix, quoted, users_text
from shared.provision import bus_users

TABLE = {user.name: user for user in bus_users(StorageConfig(sources=("robot", "lab.one")))}


def allowed(user: User, subject: str) -> bool:
    patterns = [pattern.replace(">", "*") for pattern in user.publish or ("*",)]
    return any(fnmatchcase(subject, pattern) for pattern in patterns)


def test_table_has_the_admin_and_everybody_with_limits() -> None:
    assert list(TABLE) == [ADMIN, *LIMITED_USERS]
    assert [name for name, user in TABLE.items() if user.publish is None or user.subscribe is None] == [ADMIN]


def test_inbox_of_a_user_is_a_valid_subject_whatever_its_name() -> None:
    assert inbox_prefix("converter") == "_INBOX_converter"
    assert inbox_prefix("a.b *>@x") == "_INBOX_a_b____x"


def test_no_limited_user_may_publish_to_an_inbox_or_listen_to_anothers() -> None:
    for name in LIMITED_USERS:
        assert not allowed(TABLE[name], "_INBOX_admin.x")
        assert [subject for subject in TABLE[name].subscribe or () if subject.startswith("_INBOX")] == [f"_INBOX_{name}.>"]


def test_producers_announce_for_configured_sources_only() -> None:
    for name in ("recorder", "scanner", "operator"):
        assert allowed(TABLE[name], "episode.ready.lab.one")
        assert not allowed(TABLE[name], "episode.ready.stranger")


def test_only_services_may_answer_what_reaches_them() -> None:
    assert [name for name, user in TABLE.items() if user.may_respond] == ["recorder", "scanner", "converter", "uploader"]


def test_text_keeps_a_variable_bare_and_quotes_what_could_break_out() -> None:
    text = users_text((User(name='x" }', publish=(), subscribe=("a",)), User(name="admin")), {'x" }': quoted('p" } #'), "admin": "$SECRET"})

    assert 'user: "x\\" }", password: "p\\" } #"' in text
    assert "password: $SECRET" in text
    assert text.count("permissions") == 1
