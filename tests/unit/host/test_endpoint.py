"""The host's HTTP server, and people who only hold its places."""

import contextlib
import socket
import threading

from ucloud.driver.hypervisor.fake import FakeHypervisor
from ucloud.host.endpoint import MAX_CONNECTIONS, Server


def test_more_connections_than_places_are_hung_up_on() -> None:
    server = Server("::1", "token", FakeHypervisor({}))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        with contextlib.ExitStack() as opened:
            for _ in range(MAX_CONNECTIONS):
                opened.enter_context(socket.create_connection(server.server_address[:2]))
            last = opened.enter_context(socket.create_connection(server.server_address[:2], timeout=30))
            assert last.recv(1) == b""
        answered = b""
        while b"401" not in answered:  # as soon as a place is free
            with socket.create_connection(server.server_address[:2], timeout=30) as asking, contextlib.suppress(OSError):
                asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answered = asking.recv(100)
    finally:
        server.shutdown()
        server.server_close()
        serving.join()
