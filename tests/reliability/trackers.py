"""A tracker that fails as a test wants it."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

SLOW_SECONDS = 10.0
Fault = Literal["error", "slow", "dropped", "lost", "hanging", "unanswered"]


@dataclass(frozen=True)
class Request:
    """What a client asks of the tracker."""

    path: str
    body: bytes

    @property
    def metrics(self) -> int:
        """How many metric values it brings."""
        if not self.path.endswith("/log-batch"):
            return 0
        return len(json.loads(self.body).get("metrics", ()))


class TrackerProxy:
    """Stands before a real server and hands on what is asked of it, or does a fault to it.

    Attributes:
        fault: says what happens to a request: ``error`` (answers 500), ``slow`` (asks the server
            after 10 s), ``dropped`` (the connection ends, the server never hears of it), ``lost``
            (the server does what was asked, the connection ends without its answer), ``hanging``
            and ``unanswered`` (like these two, but the connection stays); None: nothing.
        requests: all that came.
    """

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.fault: Callable[[Request], Fault | None] = lambda request: None
        self.requests: list[Request] = []
        self.port = 0
        self.open()
        self.address = f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Listen, on the same port as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _handle(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._listener = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._listener.server_port
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.shutdown()
        self._listener.socket.close()

    def _handle(self, client: BaseHTTPRequestHandler) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        request = Request(client.path, body)
        self.requests.append(request)
        fault = self.fault(request)
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        if fault == "dropped":
            return
        if fault == "hanging":
            client.connection.recv(1)  # until the client is gone
            return
        if fault == "error":
            client.send_error(500)
            return
        server = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        server.request(client.command, client.path, body, dict(client.headers))
        answer = server.getresponse()
        content = answer.read()
        if fault == "lost":
            return
        if fault == "unanswered":
            client.connection.recv(1)
            return
        client.send_response(answer.status)
        client.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        client.send_header("Content-Length", str(len(content)))
        client.end_headers()
        client.wfile.write(content)
