"""A hub on loopback, of the few endpoints that an upload calls, with what it was sent."""

import base64
import hashlib
import http.server
import json
import re
import threading
from typing import Any

TOKEN = "hf_of_the_test"


class FakeHub:
    """`repos[kind + "s/" + name]` is {"private", "files": path -> bytes}.

    `refuse` is a regular expression of "METHOD /path" requests to answer with 403; `requests`
    lists all of them in that form.
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refuse = ""
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                request = f"{self.command} {self.path.partition('?')[0]}"
                hub.requests.append(request)
                storage = request.startswith("PUT /objects/")  # addresses there are signed
                if not storage and self.headers["Authorization"] != f"Bearer {TOKEN}":
                    status, reply = 401, {"error": "Invalid token"}
                elif hub.refuse and re.match(hub.refuse, request):
                    status, reply = 403, {"error": "You may not write here"}
                else:
                    status, reply = hub.reply(request, body)
                raw = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def reply(self, request: str, body: bytes) -> tuple[int, Any]:
        if request == "POST /api/repos/create":
            return self.create(json.loads(body))
        if request == "POST /api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.fullmatch(r"PUT /objects/(\w+)", request):
            assert hashlib.sha256(body).hexdigest() == match[1]
            self.objects[match[1]] = body
            return 200, {}
        if request.endswith(".git/info/lfs/objects/batch"):
            return 200, {"objects": [self.batch(o) for o in json.loads(body)["objects"]]}
        if match := re.fullmatch(r"\w+ /api/((?:model|dataset)s/[^/]+/[^/]+)(/.+)?", request):
            if match[1] not in self.repos:
                return 404, {"error": "Repository not found"}
            repo = self.repos[match[1]]
            if match[2] in (None, "/revision/main"):
                name = match[1].partition("/")[2]
                return 200, {"id": name, "private": repo["private"], "sha": "0" * 40}
            if match[2] == "/tree/main":
                return 200, [
                    {"type": "file", "path": path, "size": len(content), "oid": oid(content)}
                    for path, content in repo["files"].items()
                ]
            if match[2] == "/preupload/main":
                return 200, {"files": [self.mode(repo, f) for f in json.loads(body)["files"]]}
            if match[2] == "/commit/main":
                return self.commit(match[1], repo, body)
        raise AssertionError(f"unexpected request: {request}")

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted['type']}s/{wanted['organization']}/{wanted['name']}"
        known = name in self.repos
        private = wanted.get("visibility") == "private"
        self.repos.setdefault(name, {"private": private, "files": {".gitattributes": b"*.npy\n"}})
        return (409 if known else 200), {"url": f"{self.address}/{name}"}

    def mode(self, repo: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
        there = repo["files"].get(file["path"])
        binary = b"\0" in base64.b64decode(file["sample"])
        return {
            "path": file["path"],
            "uploadMode": "lfs" if binary else "regular",
            "shouldIgnore": False,
            "oid": None if there is None else oid(there, binary),
        }

    def batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["oid"] in self.objects:
            return wanted
        upload = {"href": f"{self.address}/objects/{wanted['oid']}", "header": {}}
        return {**wanted, "actions": {"upload": upload}}

    def commit(self, name: str, repo: dict[str, Any], body: bytes) -> tuple[int, Any]:
        files = dict(repo["files"])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repo["files"] = files
        sha = hashlib.sha1(body).hexdigest()
        return 200, {"commitUrl": f"{self.address}/{name}/commit/{sha}", "commitOid": sha}


def oid(content: bytes, lfs: bool = False) -> str:
    """Git's name of a small file, the SHA-256 of a large one."""
    if lfs:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
