"""The metadata daemon: on every VM host, tells its guests who they are, over HTTP on port 80.

It knows nothing but the files that the host daemon has written, and goes on while that, API and etcd are gone. As it is spoken
to by guests, it is a user of its own without any rights once it listens, and reaches nobody: new sockets would be in an empty
network namespace. The packet filter keeps all but guests away.
"""

import asyncio
import errno
import os
import signal
import socket
from pathlib import Path

from ucloud.base.config import Config
from ucloud.base.errors import Conflict
from ucloud.daemon import platform
from ucloud.daemon.process import raise_file_limit
from ucloud.driver.metadata.bridges import vni
from ucloud.driver.metadata.files import DIRECTORY, READER, MetadataFiles, make
from ucloud.driver.overlay.names import METADATA_PORT
from ucloud.metadata.answers import NOT_FOUND, Answer, Request, answer
from ucloud.metadata.index import Index
from ucloud.metadata.server import PATIENCE_S, Server, Source
from ucloud.metadata.token import Tokens

WAITING = 4096  # connections that nobody has accepted yet


def main(config: Config) -> None:
    """Run until SIGTERM. Raises Conflict when port 80 is taken, Temporary when the files are gone."""
    directory = Path(config.host.run_dir) / DIRECTORY
    make(directory)
    os.chdir(directory)  # its parents are root's alone
    raise_file_limit()
    listener = listen(METADATA_PORT)
    platform.processes().become(READER)
    asyncio.run(serve(listener, MetadataFiles(Path())))


async def serve(listener: socket.socket, files: MetadataFiles) -> None:
    index, tokens = Index(files), Tokens()

    def reply(source: Source, request: Request) -> Answer:
        told = index.find(source.address, vni(listener, source.interface))
        return answer(request, told, tokens) if told else NOT_FOUND

    server = Server(listener, reply)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
    await server.run()


def listen(port: int) -> socket.socket:
    """For IPv6 and IPv4."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Else the kernel keeps for minutes what a guest does not receive, of connections that are closed already
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PATIENCE_S * 1000))
    try:
        listener.bind(("::", port))
        listener.listen(WAITING)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise Conflict(f"port {port} of this host is taken; guests look for their metadata there") from error
    return listener
