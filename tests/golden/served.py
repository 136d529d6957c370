"""An API to speak to by HTTP, over a cloud of records, with hands that make happen whatever people ask for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from werkzeug.serving import WSGIRequestHandler, make_server

from tests.golden.hands import Hands
from tests.unit.api.cloud import Cloud


@dataclass(frozen=True)
class Served:
    url: str
    cloud: Cloud
    hands: Hands


class Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Not a word."""


@contextmanager
def served() -> Iterator[Served]:
    """With a host h1 and an image `tiny`. Nobody acts on a VM named `slow`; an image named `evil` is found harmful."""
    cloud = Cloud(log=b"Welcome to the guest\n")
    hands = Hands(cloud, cloud.add_host(), errors={"evil": "it has a backing file"}, idle={"slow"})
    cloud.add_image()
    server = make_server("::1", 0, cloud.app, threaded=True, request_handler=Silent)
    server.daemon_threads = True  # type: ignore[attr-defined]
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    serving.start()
    try:
        yield Served(f"http://[::1]:{server.server_port}", cloud, hands)
    finally:
        hands.close()
        cloud.services.view.end_waits()
        server.shutdown()
        serving.join()
        server.server_close()
        cloud.close()
