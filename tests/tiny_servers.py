"""HTTP servers of a test."""

from __future__ import annotations

import contextlib
import http.server
import threading


@contextlib.contextmanager
def served(handler):
    """Serve by a handler of http.server at a free port of this computer; the address, with '/'."""
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f'http://127.0.0.1:{server.server_port}/'
    finally:
        server.shutdown()
        server.server_close()
