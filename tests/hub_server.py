"""A local server that speaks the calls huggingface_hub makes for one kind of repository: datasets, with commits, LFS and tags.

It keeps every commit as a list of files, counts requests and can fail on demand: that is what a push is tested against.
What it does not know it answers with 501, so that a new call of the library is seen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_test"
TREE_PAGE = 7
"""Files per page of a listing: small, so that following pages is tested."""

Answer = tuple[int, Any]


class Repo:
    """A repository: commits by id, each the files it holds; branches and tags point to commits."""

    def __init__(self, *, is_private: bool = False) -> None:
        self.is_private = is_private
        self.history: list[dict[str, bytes]] = []
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.branches["main"] = self.add({".gitattributes": b"*.parquet filter=lfs\n"})

    def add(self, files: dict[str, bytes]) -> str:
        listing = sorted((path, hashlib.sha1(content).hexdigest()) for path, content in files.items())
        oid = hashlib.sha1(json.dumps([len(self.history), listing]).encode()).hexdigest()
        self.commits[oid] = files
        self.history.append(files)
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)

    def files(self, revision: str = "main") -> dict[str, bytes]:
        oid = self.resolve(revision)
        assert oid is not None, f"no revision {revision}"
        return self.commits[oid]


class Fault:
    """Fails the next ``times`` requests that match.

    Args:
        status: what to answer; 0: cut the connection.
        is_late: do what was asked first, so that only the answer is lost.
        is_held: before it fails, set ``reached`` and wait until the test sets ``released``.
    """

    def __init__(self, method: str, path: str, *, status: int = 0, times: int = 1, is_late: bool = False, is_held: bool = False) -> None:
        self.method, self.path, self.status, self.times, self.is_late = method, re.compile(path), status, times, is_late
        self.reached, self.released = threading.Event(), threading.Event()
        if not is_held:
            self.released.set()


class HubServer:
    """The state of the server; ``requests`` are (method, path) of all that were made."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.account: dict[str, Any] = {
            "type": "user",
            "name": "user",
            "orgs": [{"name": "lab", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}],
            "auth": {"accessToken": {"role": "write"}},
        }
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.lock = threading.RLock()
        self.url = ""

    def requested(self, method: str, path: str) -> int:
        return sum(1 for found, where in self.requests if found == method and re.search(path, where))

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path.search(path):
                    fault.times -= 1
                    return fault
        return None


def is_lfs(path: str) -> bool:
    return path.endswith((".parquet", ".mp4"))


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def listed(path: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if is_lfs(path):
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: Any) -> None:
        """Say nothing: the test looks at ``requests``."""

    def handle_any(self) -> None:
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.hub.lock:
            self.hub.requests.append((self.command, path))
        fault = self.hub.fault(self.command, path)
        if fault is not None and not fault.is_late:
            return self.fail(fault)
        with self.hub.lock:
            answered = self.route(path, query, body)
        if fault is not None:
            return self.fail(fault)
        return answered()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815 - names of the standard library

    def fail(self, fault: Fault) -> None:
        fault.reached.set()
        fault.released.wait(60)
        if fault.status:
            return self.send(fault.status, {"error": "injected"})
        self.close_connection = True
        self.connection.shutdown(2)
        return None

    def send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def route(self, path: str, query: dict[str, list[str]], body: bytes) -> Callable[[], None]:
        """Do what is asked and return how to answer it."""
        if path.startswith("/lfs/") and self.command == "PUT":
            self.hub.objects[path.removeprefix("/lfs/")] = body
            return lambda: self.send(200, {})
        if not path.startswith("/datasets/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return lambda: self.send(401, {"error": "Invalid credentials"})
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*found.groups())
        status, document = self.answer(path, body)
        if isinstance(document, list) and status == 200:
            return self.page(document, query)
        headers = {"X-Error-Code": "RepoNotFound"} if document == {"error": "Repository not found"} else {}
        return lambda: self.send(status, document, headers)

    def answer(self, path: str, body: bytes) -> Answer:
        fixed: dict[str, Callable[[], Answer]] = {
            "/api/whoami-v2": lambda: (200, self.hub.account),
            "/api/validate-yaml": lambda: (200, {"errors": [], "warnings": []}),
            "/api/repos/create": lambda: self.create(json.loads(body)),
        }
        if path in fixed:
            return fixed[path]()
        if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self.batch(json.loads(body))
        found = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/([a-z-]+)(?:/(.+))?)?", path)
        if found is None:
            return 501, {"error": f"unknown call {self.command} {path}"}
        name, call, rest = found.groups()
        if name not in self.hub.repos:
            return 404, {"error": "Repository not found"}
        return self.on_repo(name, call or "", rest or "", body)

    def on_repo(self, name: str, call: str, rest: str, body: bytes) -> Answer:
        repo = self.hub.repos[name]
        calls: dict[tuple[str, str], Callable[[], Answer]] = {
            ("GET", ""): lambda: self.described(name, repo, "main"),
            ("GET", "revision"): lambda: self.described(name, repo, rest),
            ("GET", "auth-check"): lambda: (200, {}),
            ("GET", "refs"): lambda: (200, {"branches": refs(repo.branches, "heads"), "tags": refs(repo.tags, "tags"), "converts": []}),
            ("GET", "tree"): lambda: (200, [listed(path, content) for path, content in sorted(repo.files(rest).items())]),
            ("GET", "xet-write-token"): lambda: (404, {"error": "no Xet here"}),
            ("POST", "preupload"): lambda: (
                200,
                {"files": [self.mode(repo.files(rest), one["path"]) for one in json.loads(body)["files"]]},
            ),
            ("POST", "commit"): lambda: self.commit(name, rest, [json.loads(line) for line in body.splitlines()]),
            ("POST", "branch"): lambda: (200, {"branch": repo.branches.setdefault(rest, repo.branches["main"])}),
            ("POST", "tag"): lambda: self.tag(repo, json.loads(body)["tag"], rest),
            ("DELETE", "tag"): lambda: (200, {"commit": repo.tags.pop(rest)}) if rest in repo.tags else (404, {"error": "no such tag"}),
        }
        unknown: Answer = (501, {"error": f"unknown call {self.command} {call}"})
        return calls.get((self.command, call), lambda: unknown)()

    def described(self, name: str, repo: Repo, revision: str) -> Answer:
        oid = repo.resolve(revision)
        if oid is None:
            return 404, {"error": "no such revision"}
        siblings = [{"rfilename": path} for path in repo.commits[oid]]
        return 200, {"id": name, "sha": oid, "private": repo.is_private, "siblings": siblings}

    def tag(self, repo: Repo, name: str, revision: str) -> Answer:
        if name in repo.tags:
            return 409, {"error": "tag exists"}
        repo.tags[name] = repo.resolve(revision) or ""
        return 200, {}

    def create(self, asked: dict[str, Any]) -> Answer:
        name = f"{asked.get('organization') or self.hub.account['name']}/{asked['name']}"
        if name in self.hub.repos:
            return 409, {"error": "You already created this dataset repo", "url": f"{self.hub.url}/datasets/{name}"}
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[name] = Repo(is_private=is_private)
        return 200, {"url": f"{self.hub.url}/datasets/{name}", "name": name, "id": name}

    def mode(self, files: dict[str, bytes], path: str) -> dict[str, Any]:
        oid = None
        if path in files:
            oid = hashlib.sha256(files[path]).hexdigest() if is_lfs(path) else git_oid(files[path])
        return {"path": path, "uploadMode": "lfs" if is_lfs(path) else "regular", "shouldIgnore": False, "oid": oid}

    def batch(self, asked: dict[str, Any]) -> Answer:
        objects = []
        for wanted in asked["objects"]:
            found = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.objects:
                found["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append(found)
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> Answer:
        repo = self.hub.repos[name]
        files = dict(repo.files(branch))
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": f"no object {value['oid']}"}
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif value["path"] not in files:
                return 404, {"error": "A file with this name doesn't exist"}
            else:
                del files[value["path"]]
        repo.branches[branch] = oid = repo.add(files)
        return 200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{oid}", "commitOid": oid}

    def page(self, document: list[Any], query: dict[str, list[str]]) -> Callable[[], None]:
        start = int(query.get("cursor", ["0"])[0])
        following = start + TREE_PAGE
        address = urlsplit(self.path).path
        link = {"Link": f'<{self.hub.url}{address}?recursive=True&cursor={following}>; rel="next"'} if following < len(document) else {}
        return lambda: self.send(200, document[start:following], link)

    def resolve(self, name: str, revision: str, path: str) -> Callable[[], None]:
        repo = self.hub.repos.get(name)
        oid = repo.resolve(revision) if repo else None
        if repo is None or oid is None or path not in repo.commits[oid]:
            return lambda: self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content = repo.commits[oid][path]
        etag = hashlib.sha256(content).hexdigest() if is_lfs(path) else git_oid(content)
        return lambda: self.send(200, content, {"X-Repo-Commit": oid, "ETag": f'"{etag}"'})


def refs(found: dict[str, str], kind: str) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in found.items()]


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Give a running server on a free port for the block."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
