"""The service's HTTP, by sockets of this machine: what requests and answers may cost. The rest is tested with a real daemon."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ucloud.metadata import server
from ucloud.metadata.answers import Answer, Request
from ucloud.metadata.server import MAX_HEAD_BYTES, Server, Source

DEADLINE_S = 60.0
MIB = 1 << 20


@asynccontextmanager
async def serving(body: bytes) -> AsyncIterator[tuple[int, Server]]:
    """At a port of ::1, with the same answer for everybody."""

    def reply(source: Source, request: Request) -> Answer:
        return Answer(200, body)

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        serves = Server(listener, reply)
        task = asyncio.create_task(serves.run())
        await asyncio.sleep(0)
        yield listener.getsockname()[1], serves
        serves.end()
        await task


async def asked(port: int, head: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("::1", port)
    writer.write(head)
    await writer.drain()
    return reader, writer  # without which the connection ends


@pytest.mark.parametrize(("lines", "status"), [(10, b"200"), (MAX_HEAD_BYTES // 4 + 1, b"431")])
def test_a_head_that_comes_as_a_whole_is_no_larger_than_others(lines: int, status: bytes) -> None:
    """What h11 takes for each header keeps all others waiting."""

    async def ask() -> bytes:
        async with serving(b"web") as (port, _):
            reader, _writer = await asked(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * lines + b"\r\n")
            return (await reader.readline()).split()[1]

    assert asyncio.run(asyncio.wait_for(ask(), DEADLINE_S)) == status


def test_an_error_has_no_body_either_where_none_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    """What asyncio says of an exception are many lines in a log, for each request."""

    async def ask() -> bytes:
        async with serving(b"web") as (port, _):
            reader, _writer = await asked(port, b"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
            return await reader.read()

    answer = asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\n")
    assert caplog.text == ""


def test_answers_that_nobody_reads_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked last is answered; of the others the oldest are hung up on."""
    monkeypatch.setattr(server, "MAX_UNSENT_BYTES", 40 * MIB)
    body = bytes(20 * MIB)  # more than the kernel takes

    async def ask() -> None:
        async with serving(body) as (port, serves):
            silent = [await asked(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(6)]
            reader, _writer = await asked(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).endswith(body)
            assert sum(conversation.unsent_bytes for conversation in serves.open) <= 40 * MIB
            with pytest.raises(ConnectionResetError):
                await silent[0][0].read()

    asyncio.run(asyncio.wait_for(ask(), DEADLINE_S))
