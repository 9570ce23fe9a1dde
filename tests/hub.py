"""A Hugging Face hub on the loopback: folders as repositories, by its protocol of downloads.

Only what clients ask of a public repository: HEAD and GET of ``/OWNER/NAME/resolve/main/FILE``, and
what a repository holds.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def served(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Serve folders by their ids; gives the endpoint and the list of what is asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = unquote(self.path.partition("?")[0]).strip("/")
            asked.append(f"{self.command} {path}")
            body, missing = _found(repositories, path)
            self.send_response(404 if missing else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            if missing:
                self.send_header("X-Error-Code", missing)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _found(repositories: dict[str, Path], path: str) -> tuple[bytes, str]:
    """A body, and the hub's code of what is missing."""
    of_api = path.startswith("api/models/")
    parts = path.removeprefix("api/models/").split("/")
    folder = repositories.get("/".join(parts[:2]))
    if folder is None:
        return b"", "RepoNotFound"
    if of_api:
        files = sorted(each for each in folder.rglob("*") if each.is_file())
        names = [str(each.relative_to(folder)) for each in files]
        if "tree" in parts:
            tree = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": COMMIT}
                for name, file in zip(names, files, strict=True)
            ]
            return json.dumps(tree).encode(), ""
        about = {"id": "/".join(parts[:2]), "sha": COMMIT}
        return json.dumps(
            {**about, "siblings": [{"rfilename": each} for each in names]}
        ).encode(), ""
    file = folder.joinpath(*parts[4:])  # behind resolve/REVISION
    return (file.read_bytes(), "") if file.is_file() else (b"", "EntryNotFound")
