"""A TCP proxy in front of PostgreSQL that can swallow everything, as a broken network does."""

from __future__ import annotations

import contextlib
import socket
from threading import Event, Thread

from backoffice.local import embedded
from backoffice.local.postgres import PORT, SUPERUSER, PostgresServer


class DatabaseProxy:
    """Pass bytes between TCP clients and the server's socket, until told to swallow them."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = str(server.socket_folder / f".s.PGSQL.{PORT}")
        self._passing = Event()
        self._passing.set()
        self._closed = False
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server((embedded.HOST, 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        Thread(target=self._accept, daemon=True).start()

    def url(self, database: str) -> str:
        return f"postgres://{SUPERUSER}@{embedded.HOST}:{self.port}/{database}"

    def swallow(self) -> None:
        """Take connections and bytes, and pass none of them on, in both directions."""
        self._passing.clear()

    def pass_on(self) -> None:
        """Work again. What was swallowed on a connection breaks it."""
        self._passing.set()

    def close(self) -> None:
        self._closed = True
        self._passing.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        swallowed = not self._passing.is_set()
        self._passing.wait()
        server = socket.socket(socket.AF_UNIX)
        self._sockets.append(server)
        try:
            if swallowed:
                return
            server.connect(self._server)
            back = Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()
        except OSError:
            pass
        finally:
            client.close()
            server.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._passing.is_set():
                    self._passing.wait()
                    break
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
