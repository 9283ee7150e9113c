"""A Hub of the tests' own, on 127.0.0.1: what huggingface_hub asks of the real one to push and to download.

Repositories live in memory. A commit makes a whole new tree or none. Faults are set by route:

    with LoopbackHub() as hub:
        hub.fail("commit", 500)           # until told otherwise
        hub.fail("lfs-put", "cut", 1)     # the connection closes without an answer, once
        hub.fail("commit", "cut after")   # the commit is made, its answer is lost
"""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "a" * 34
READ_ONLY_TOKEN = "hf_" + "b" * 34
LFS_BYTES = 10_000_000


@dataclass
class Repo:
    """One repository: its commits, each a whole tree of `(bytes, is LFS)` by path."""

    private: bool = False
    commits: list[tuple[str, dict[str, tuple[bytes, bool]]]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, tuple[bytes, bool]]:
        return self.commits[-1][1]

    def commit(self, files: dict[str, tuple[bytes, bool]]) -> str:
        text = json.dumps([len(self.commits), sorted((path, _oid(*entry)) for path, entry in files.items())])
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        return self.sha

    def at(self, revision: str) -> dict[str, tuple[bytes, bool]] | None:
        return self.files if revision == "main" else dict(self.commits).get(revision)


class LoopbackHub:
    """The server and what it holds."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, tuple[int | str, int]] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, route: str, how: int | str, times: int = 1_000) -> None:
        """Lets the next `times` requests to a route end with a status, or with the connection cut."""
        self.faults[route] = (how, times)

    def heal(self) -> None:
        self.faults.clear()

    def files(self, repo_id: str, repo_type: str = "model") -> dict[str, bytes]:
        """What a repository holds, without what it was made with."""
        repo = self.repos.get((repo_type, repo_id))
        return {} if repo is None else {p: data for p, (data, _) in repo.files.items() if p != ".gitattributes"}

    def fault_of(self, route: str) -> int | str | None:
        with self.lock:
            self.requests[route] += 1
            how, times = self.faults.get(route, (None, 0))
            if times <= 0:
                return None
            self.faults[route] = (how, times - 1)
            return how


class _RefusalError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, **body: Any):
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message, **body}


_TYPE = r"(?P<kind>models|datasets|spaces)"
_REPO = r"(?P<repo>[^/]+/[^/]+)"
_ROUTES = (
    ("POST", "create", r"/api/repos/create"),
    ("POST", "validate-yaml", r"/api/validate-yaml"),
    ("POST", "preupload", rf"/api/{_TYPE}/{_REPO}/preupload/(?P<revision>[^/]+)"),
    ("POST", "commit", rf"/api/{_TYPE}/{_REPO}/commit/(?P<revision>[^/]+)"),
    ("POST", "paths-info", rf"/api/{_TYPE}/{_REPO}/paths-info/(?P<revision>[^/]+)"),
    ("GET", "tree", rf"/api/{_TYPE}/{_REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.+))?"),
    ("GET", "info", rf"/api/{_TYPE}/{_REPO}(/revision/(?P<revision>[^/]+))?"),
    ("POST", "lfs-batch", rf"/(?P<kind>datasets/|spaces/)?{_REPO}\.git/info/lfs/objects/batch"),
    ("PUT", "lfs-put", r"/blobs/(?P<oid>[0-9a-f]{64})"),
    ("GET", "resolve", rf"/(?P<kind>datasets/|spaces/)?{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
)


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        method = "GET" if self.command == "HEAD" else self.command
        found = ((name, re.fullmatch(pattern, path)) for verb, name, pattern in _ROUTES if verb == method)
        route, match = next(((name, match) for name, match in found if match), ("unknown", None))
        fault = self.hub.fault_of(route)
        if fault == "cut":
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        if isinstance(fault, int):
            self._send(fault, {"error": f"refused on demand ({fault})", "url": f"{self.hub.endpoint}/x/y"})
            return
        try:
            if match is None:
                raise _RefusalError(404, f"no such route: {self.command} {path}")
            groups = {name: value for name, value in match.groupdict().items() if value is not None}
            if "kind" in groups or route in ("lfs-batch", "resolve"):
                groups["kind"] = groups.get("kind", "models").strip("/").removesuffix("s")
            with self.hub.lock:
                result = getattr(self, "_" + route.replace("-", "_"))(body, **groups)
        except _RefusalError as refusal:
            self._send(refusal.status, refusal.body, refusal.code)
            return
        if fault == "cut after":
            self.close_connection = True
            self.connection.close()
        elif result is not None:
            self._send(200, result)

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

    # ------------------------------------------------------------------------------------------------------ writing
    def _create(self, body: bytes) -> dict[str, Any]:
        wanted = json.loads(body)
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        self._may_write(repo_id)
        kind = wanted.get("type") or "model"
        url = f"{self.hub.endpoint}/{'' if kind == 'model' else f'{kind}s/'}{repo_id}"
        if (kind, repo_id) in self.hub.repos:
            raise _RefusalError(409, "You already created this repo", url=url)
        repo = self.hub.repos[kind, repo_id] = Repo(wanted.get("visibility") == "private")
        repo.commit({".gitattributes": (b"*.safetensors filter=lfs\n", False)})
        return {"url": url, "name": repo_id, "id": "0"}

    def _validate_yaml(self, body: bytes) -> dict[str, Any]:
        return {"errors": [], "warnings": []}

    def _preupload(self, body: bytes, kind: str, repo: str, revision: str) -> dict[str, Any]:
        self._may_write(repo)
        there = self._repo(kind, repo).files
        answers = []
        for file in json.loads(body)["files"]:
            is_lfs = file["size"] > LFS_BYTES or b"\0" in base64.b64decode(file["sample"])
            known = there.get(file["path"])
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if is_lfs else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(*known) if known else None,
                }
            )
        return {"files": answers}

    def _lfs_batch(self, body: bytes, kind: str, repo: str) -> dict[str, Any]:
        self._may_write(repo)
        objects = []
        for wanted in json.loads(body)["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.blobs:
                entry["actions"] = {"upload": {"href": f"{self.hub.endpoint}/blobs/{wanted['oid']}"}}
            objects.append(entry)
        return {"transfer": "basic", "objects": objects}

    def _lfs_put(self, body: bytes, oid: str) -> dict[str, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _RefusalError(400, "the content is not what its hash says")
        self.hub.blobs[oid] = body
        return {}

    def _commit(self, body: bytes, kind: str, repo: str, revision: str) -> dict[str, Any]:
        self._may_write(repo)
        stored = self._repo(kind, repo)
        files, parent = dict(stored.files), None
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                parent = value.get("parentCommit")
            elif item["key"] == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile" and value["oid"] in self.hub.blobs:
                files[value["path"]] = (self.hub.blobs[value["oid"]], True)
            elif item["key"] == "deletedFile" and value["path"] in files:
                del files[value["path"]]
            else:
                raise _RefusalError(400, f"cannot {item['key']} {value.get('path')}")
        if parent and parent != stored.sha:
            raise _RefusalError(412, "A commit has happened since. Please refresh and try again.")
        sha = stored.commit(files)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{sha}"}

    # ------------------------------------------------------------------------------------------------------ reading
    def _info(self, body: bytes, kind: str, repo: str, revision: str = "main") -> dict[str, Any]:
        stored = self._repo(kind, repo)
        files = self._tree_of(kind, repo, revision)
        sha = stored.sha if revision == "main" else revision
        siblings = [{"rfilename": path} for path in sorted(files)]
        return {"id": repo, "sha": sha, "private": stored.private, "siblings": siblings, "tags": [], "downloads": 0}

    def _tree(self, body: bytes, kind: str, repo: str, revision: str, path: str = "") -> list[dict[str, Any]]:
        files = self._tree_of(kind, repo, revision)
        start = f"{path}/" if path else ""
        inside = {p: entry for p, entry in files.items() if p.startswith(start)}
        folders = {p[: p.index("/", len(start))] for p in inside if "/" in p[len(start) :]}
        if "recursive=true" not in self.path.lower():
            inside = {p: entry for p, entry in inside.items() if "/" not in p[len(start) :]}
        listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in sorted(folders)]
        return listed + [_described(p, *entry) for p, entry in sorted(inside.items())]

    def _paths_info(self, body: bytes, kind: str, repo: str, revision: str) -> list[dict[str, Any]]:
        files = self._tree_of(kind, repo, revision)
        is_json = self.headers.get("Content-Type", "").startswith("application/json")
        paths = json.loads(body)["paths"] if is_json else parse_qs(body.decode())["paths"]
        folders = [p for p in paths if any(other.startswith(f"{p}/") for other in files)]
        listed = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders]
        return listed + [_described(p, *files[p]) for p in paths if p in files]

    def _resolve(self, body: bytes, kind: str, repo: str, revision: str, path: str) -> None:
        stored, files = self._repo(kind, repo), self._tree_of(kind, repo, revision)
        if path not in files:
            raise _RefusalError(404, "Entry not found", "EntryNotFound")
        data, is_lfs = files[path]
        headers = {"X-Repo-Commit": stored.sha if revision == "main" else revision, "ETag": f'"{_oid(data, is_lfs)}"'}
        status, headers["Accept-Ranges"] = 200, "bytes"
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        self._send_bytes(status, data, headers)

    # ------------------------------------------------------------------------------------------------------- shared
    def _repo(self, kind: str, repo: str) -> Repo:
        stored = self.hub.repos.get((kind, repo))
        if stored is None or (stored.private and self._token() not in (TOKEN, READ_ONLY_TOKEN)):
            raise _RefusalError(404 if self._token() else 401, "Repository not found", "RepoNotFound")
        return stored

    def _tree_of(self, kind: str, repo: str, revision: str) -> dict[str, tuple[bytes, bool]]:
        files = self._repo(kind, repo).at(revision)
        if files is None:
            raise _RefusalError(404, "Revision not found", "RevisionNotFound")
        return files

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self, repo: str) -> None:
        if self._token() not in (TOKEN, READ_ONLY_TOKEN):
            raise _RefusalError(401, "Invalid username or password.")
        if self._token() == READ_ONLY_TOKEN or repo.split("/")[0] != "user":
            raise _RefusalError(403, "You don't have the rights to write here")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, status: int, content: Any, code: str | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        if code:
            headers |= {"X-Error-Code": code, "X-Error-Message": content["error"]}
        self._send_bytes(status, json.dumps(content).encode(), headers)

    def _send_bytes(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


def talk_to(hub: LoopbackHub, monkeypatch: Any) -> None:
    """Makes the client in this process talk to `hub`, with a token, and in no need of rest between its tries."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def _oid(data: bytes, is_lfs: bool) -> str:
    """What the Hub knows a file by: git's hash of a blob, or SHA-256 for LFS."""
    if is_lfs:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _described(path: str, data: bytes, is_lfs: bool) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": _oid(data, False)}
    return entry | ({"lfs": {"oid": _oid(data, True), "size": len(data), "pointerSize": 130}} if is_lfs else {})
