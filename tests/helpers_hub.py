"""The few doors of the Hugging Face Hub that pushing and pulling a world goes through, on this machine."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Hub:
    """Repositories in memory: names of files to their bytes; `fetched` has the files whose content was asked for.

    `status`, where it is not 0, is all that the Hub answers.
    `sizes` are those that it claims in place of the true ones.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.fetched: list[str] = []
        self.url = ""
        self.status = 0
        self.sizes: dict[str, int | None] = {}

    def commit(self, repo: str) -> str:
        files = self.repos[repo]
        return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Door", (Door,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Door(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.hub.status:
            return self.answer(self.hub.status, {"error": "not now\n\nnot you"})
        path = self.path.split("?")[0].strip("/").split("/")
        repo = "/".join(path[2:4] if path[0] == "api" else path[:2])
        if repo not in self.hub.repos:
            return self.answer(404, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"})
        if path[0] == "api" and "tree" in path:
            files = self.hub.repos[repo].items()
            tree = [{"type": "file", "path": n, "size": len(x), "oid": hashlib.sha1(x).hexdigest()} for n, x in files]
            return self.answer(200, tree)
        if path[0] == "api":
            files = self.hub.repos[repo].items()
            siblings = [{"rfilename": n, "size": self.hub.sizes.get(n, len(x))} for n, x in files]
            return self.answer(200, {"id": repo, "sha": self.hub.commit(repo), "siblings": siblings})
        return self.file(repo, "/".join(path[4:]))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.status:
            return self.answer(self.hub.status, {"error": "not now\n\nnot you"})
        path = self.path.split("?")[0].strip("/").split("/")
        if path[1:3] == ["repos", "create"]:
            wanted = json.loads(body)
            repo = "/".join(filter(None, [wanted.get("organization"), wanted["name"]]))
            self.hub.repos.setdefault(repo, {})
            return self.answer(200, {"url": f"{self.hub.url}/{repo}", "name": repo})
        if path[1] == "validate-yaml":  # of the card
            return self.answer(200, {"errors": [], "warnings": []})
        repo = "/".join(path[2:4])
        if "preupload" in path:
            names = [each["path"] for each in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for name in names]
            return self.answer(200, {"files": modes})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.hub.repos[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = self.hub.commit(repo)
        return self.answer(200, {"commitUrl": f"{self.hub.url}/{repo}/commit/{commit}", "commitOid": commit})

    def file(self, repo: str, name: str) -> None:
        content = self.hub.repos[repo][name]
        if self.command == "GET":
            self.hub.fetched.append(name)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.answer(200, content, {"ETag": etag, "X-Repo-Commit": self.hub.commit(repo)})

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are silent."""
