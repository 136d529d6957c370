"""Passes connections to a TCP address on to a unix socket, both ways, byte by byte. Used by the supervisor of `ucloud up`, so
that the machine's [::1]:8642 is the API, which listens on a unix socket only.
"""

import logging
import socket
import threading
from pathlib import Path

log = logging.getLogger("ucloud.forward")

MAX_CONNECTIONS = 256  # two threads each
CHUNK_BYTES = 65536


def serve(listener: socket.socket, target: Path) -> None:
    """Run for ever."""
    places = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        places.acquire()
        try:
            client, _ = listener.accept()
        except OSError as error:  # a client that gave up at once, or too many open files
            log.warning("accept: %s", error)
            places.release()
            continue
        threading.Thread(target=join, args=(client, target, places), daemon=True).start()


def join(client: socket.socket, target: Path, places: threading.BoundedSemaphore) -> None:
    server = socket.socket(socket.AF_UNIX)
    with client, server:
        try:
            server.connect(str(target))
        except OSError as error:
            log.debug("%s: %s", target, error)  # the client sees its connection end
        else:
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()
    places.release()


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Until the source has no more; says so to the sink, which may go on to answer."""
    try:
        while chunk := source.recv(CHUNK_BYTES):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for broken in (source, sink):  # wakes the other direction, too
            try:
                broken.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
