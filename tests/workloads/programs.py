"""Small programs for tests of processes and services."""

from __future__ import annotations

import sys
from pathlib import Path

#: A service: GET /health, POST /orders with a JSON body, /slow, /reset (closes without an answer), /die, /pid.
SERVICE = """
import http.server, json, os, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/reset":
            self.close_connection = True
            return
        if self.path == "/die":
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(7)
        if self.path == "/refuse":
            return self.answer(409, b"sold out")
        told = {"type": self.headers.get("Content-Type"), "body": body.decode(), "at": self.client_address[1]}
        self.answer(201, json.dumps(told).encode())

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(60)
        self.answer(200, str(os.getpid()).encode())

    def log_message(self, *_):
        pass

port = int(sys.argv[1] if len(sys.argv) > 1 else os.environ["PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def python(text: str) -> tuple[str, ...]:
    """The words of a command that runs a text."""
    return sys.executable, "-c", text


def written(folder: Path, name: str, text: str) -> str:
    """A file with a text; its path."""
    path = folder / name
    path.write_text(text)
    return str(path)
