"""A proxy before a server that fails as networks do: no answer, an answer that gets lost, a 503."""

import collections
import contextlib
import socket
import threading
from urllib.parse import urlsplit

BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultyProxy:
    """Passes connections on to a server, and some not.

    Args:
        target: The server's address.
    """

    def __init__(self, target):
        self.faults = collections.deque()
        """What happens to the next connections: `busy` or `lost`; then they are passed on."""
        self._target = (urlsplit(target).hostname, urlsplit(target).port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._open = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.take_away()
        self._thread.join()

    def take_away(self):
        """Answer nobody any more, and cut off who is being answered."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            fault = self.faults.popleft() if self.faults else "none"
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client, fault):
        with client:
            if fault == "busy":
                client.recv(2**20)
                client.sendall(BUSY)
                return
            with socket.create_connection(self._target) as server:
                self._open |= {client, server}
                back = threading.Thread(target=_copy, args=(server, client, fault), daemon=True)
                back.start()
                _copy(client, server, "none")
                back.join()
                self._open -= {client, server}


def _copy(source, target, fault):
    """Copy until the end; where the answer is to get lost, cut both off instead of passing it."""
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            if fault == "lost" and not data.startswith(b"HTTP/1.1 100"):
                break
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
