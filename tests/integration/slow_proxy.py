"""A TCP proxy before one etcd member whose every answer comes late, as from a machine with a slow disk."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHUNK_BYTES = 1 << 16


class SlowProxy:
    """Listens at `url`. delay_s: of what the member says; it may be changed at any time."""

    def __init__(self, member: str) -> None:
        self.delay_s = 0.0
        self.url = ""
        self._port = int(member.rpartition(":")[2])
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "::1", 0))
        self.url = f"http://[::1]:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self, from_daemon: asyncio.StreamReader, to_daemon: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            from_member, to_member = await asyncio.open_connection("::1", self._port)
            await asyncio.gather(self._ask(from_daemon, to_member), self._answer(from_member, to_daemon))
        to_daemon.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The first words of a connection are the network's own, and in time."""
        writer.write(await reader.read(CHUNK_BYTES))
        due_s = 0.0
        while data := await reader.read(CHUNK_BYTES):
            due_s = max(due_s + 1e-6, self._loop.time() + self.delay_s)  # in order, also when the delay shrinks
            self._loop.call_at(due_s, writer.write, data)
        self._loop.call_at(due_s, writer.close)


@contextmanager
def slow_proxy(member: str) -> Iterator[SlowProxy]:
    proxy = SlowProxy(member)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
