"""A proxy before a server on this machine, that holds requests up or answers them itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PASSED_ON = {"connection", "transfer-encoding", "content-length"}


class Proxy:
    """``before`` sees each request's method and address, and may wait, raise ConnectionError to cut it off, or give an
    answer's status; by ``after``, the answer to what the server has done is lost."""

    def __init__(
        self, port: int, before: Callable[[str, str], int | None], after: Callable[[str, str], bool] = lambda *_: True
    ) -> None:
        outer, self._target, self.before, self.after = self, port, before, after

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                outer._answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        if request.headers.get("Expect") == "100-continue":
            request.send_response_only(100)
            request.end_headers()
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        try:
            status = self.before(request.command, request.path)
        except ConnectionError:
            request.close_connection = True
            return
        if status is not None:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        target = HTTPConnection("127.0.0.1", self._target, timeout=60)
        try:
            target.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in ("connection", "expect"):
                    target.putheader(name, value)
            target.endheaders(body)
            answer = target.getresponse()
            content = answer.read()
        finally:
            target.close()
        if not self.after(request.command, request.path):
            request.close_connection = True
            return
        request.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in PASSED_ON:
                request.send_header(name, value)
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)
