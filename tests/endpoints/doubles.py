"""Stand-ins for servers and clocks."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.time, self.slept, self._lock = 0.0, [], threading.Lock()

    def now(self):
        return self.time

    def sleep(self, seconds, stop):
        with self._lock:
            self.slept.append(seconds)
            self.time += seconds


class Script:
    """A transport that answers with a function of the decoded request, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked, self.headers, self.urls = answer, [], [], []
        self._lock = threading.Lock()

    def transport(self):
        return httpx2.MockTransport(self._handle)

    def _handle(self, request):
        payload = json.loads(request.content)
        with self._lock:
            self.asked.append(payload)
            self.headers.append(dict(request.headers))
            self.urls.append(str(request.url))
            number = len(self.asked) - 1
        found = self.answer(payload, number)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, httpx2.Response):
            return found
        return httpx2.Response(200, content=json.dumps(found))


@contextlib.contextmanager
def local_server(answer):
    """A server on this machine; `answer(path, payload)` returns status and object, or None to drop the connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(self.path, payload)
            if found is None:
                self.close_connection = True
                return
            body = json.dumps(found[1]).encode()
            self.send_response(found[0])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client):
            """A client that went away is what some tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
