"""Between this process and the job's coordinator: a connection that is never seen to end.

When the coordinator's process ends, however it does, JAX's client aborts every other process at
once, with its own text and a stack trace. Behind a relay it sees a coordinator that says nothing
any more, and `hosts.py`, which looks at the same time, is left to say whose loss that is.
"""

import contextlib
import socket
import threading

_BLOCK = 1 << 16  # bytes
_CONNECT_SECONDS = 5.0


def start(coordinator: str) -> str:
    """Begins to relay to `host:port`; returns the `host:port`, on loopback, to go to instead."""
    host, _, port = coordinator.rpartition(":")
    target = host.strip("[]"), int(port)
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(server, target), daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _serve(server: socket.socket, target: tuple[str, int]) -> None:
    while True:
        client, _ = server.accept()
        try:
            coordinator = socket.create_connection(target, _CONNECT_SECONDS)
        except OSError:  # it has not started yet: the client tries again
            client.close()
            continue
        coordinator.settimeout(None)
        for end in (client, coordinator):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_to, args=(client, coordinator), daemon=True).start()
        threading.Thread(target=_back, args=(coordinator, client), daemon=True).start()


def _to(client: socket.socket, coordinator: socket.socket) -> None:
    """Until the client closes; what a coordinator that is gone does not take is dropped."""
    with contextlib.suppress(OSError):
        while block := client.recv(_BLOCK):
            with contextlib.suppress(OSError):
                coordinator.sendall(block)
    for end in (coordinator, client):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _back(coordinator: socket.socket, client: socket.socket) -> None:
    """Until either is gone; the client is not told of the coordinator's end."""
    with contextlib.suppress(OSError):
        while block := coordinator.recv(_BLOCK):
            client.sendall(block)
