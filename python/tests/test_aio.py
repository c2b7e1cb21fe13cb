"""asyncio."""

import asyncio
import time
from typing import Any, Coroutine, List

import pytest

import asap
from asap import aio

from conftest import PATIENCE, Start, descriptors, of_session, until


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 2 * PATIENCE))


def test_many_sessions_go_on_when_their_server_is_killed(start: Start, pool: str) -> None:
    servers = [start(), start()]

    async def one(name: int, killed: asyncio.Event) -> int:
        async with await aio.connect(pool) as session:
            for number in range(40):
                if number == 20:
                    await killed.wait()
                request = b"%d/%d" % (name, number)
                assert await session.request(request, request.__eq__, PATIENCE) == request
            return 1

    async def work() -> None:
        killed = asyncio.Event()
        tasks = [asyncio.ensure_future(one(name, killed)) for name in range(50)]
        async with await aio.connect(pool) as session:
            await session.request(b"x", timeout=PATIENCE)
            of_session(servers, session.sync.element).kill()
        killed.set()
        assert sum(await asyncio.gather(*tasks)) == 50

    run(work())


def test_a_server_serves_in_the_loop(pool: str) -> None:
    async def work() -> None:
        async with await aio.register(pool, asap.Policy("LeastUsed")) as server:

            async def serve() -> None:
                async for message in server.messages():
                    await server.send_cookie(b"state", message.session)
                    await server.send(message.data, message.session)

            serving = asyncio.ensure_future(serve())
            async with await aio.connect(pool) as session:
                assert await session.request(b"hello", timeout=PATIENCE) == b"hello"
                assert session.sync.has_cookie
                await server.report_load(0.5)
                await server.deregister()
                with pytest.raises(asap.NoSuchPool):
                    await aio.connect(pool)
            await server.close()
            await serving

    run(work())


def test_accepted_sessions_are_served_in_the_loop(pool: str) -> None:
    async def work() -> None:
        async with await aio.listen(pool) as listener:

            async def serve(session: aio.Session) -> None:
                async with session:
                    async for event in session:
                        if isinstance(event, asap.Message):
                            await session.send(event.data)

            async def accept() -> None:
                tasks = [asyncio.ensure_future(serve(session)) async for session in listener]
                await asyncio.gather(*tasks)

            accepting = asyncio.ensure_future(accept())
            for number in range(3):
                async with await aio.connect(pool) as session:
                    assert await session.request(b"%d" % number, timeout=PATIENCE) == b"%d" % number
            await listener.close()
            await accepting

    run(work())


def test_senders_wait_for_room_while_nobody_receives(pool: str) -> None:
    data = bytes(1_000_000)

    async def work() -> None:
        async with await aio.register(pool) as server:
            async with await aio.connect(pool) as session:
                sent: List[int] = []

                async def send() -> None:
                    for number in range(40):
                        await session.send(data)
                        sent.append(number)

                sending = asyncio.ensure_future(send())
                # An answer that nobody receives keeps the descriptor readable.
                added = await server.receive(PATIENCE)
                assert isinstance(added, asap.SessionAdded)
                await server.send(b"unread", added.session)
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(asyncio.shield(sending), 0.5)
                assert len(sent) < 40
                got = 0
                async for message in server.messages():
                    got += len(message.data)
                    if got == 40 * len(data):
                        break
                await sending
                assert await session.recv(PATIENCE) == b"unread"

    run(work())


def test_what_was_sent_is_written_though_nobody_calls_the_session_again(pool: str) -> None:
    data = bytes(16 << 20)

    async def work() -> None:
        async with await aio.register(pool) as server, await aio.connect(pool) as session:
            added = await server.receive(PATIENCE)
            assert isinstance(added, asap.SessionAdded)
            # What nobody receives keeps the descriptor readable.
            await server.send(b"unread", added.session)
            await session.send(data)
            got = 0
            while got < len(data):
                message = await server.receive(PATIENCE)
                assert isinstance(message, asap.Message)
                got += len(message.data)
            assert await session.recv(PATIENCE) == b"unread"

    run(work())


def test_time_outs_and_cancellation_take_nothing(start: Start, pool: str) -> None:
    start()

    async def work() -> None:
        async with await aio.connect(pool) as session:
            with pytest.raises(TimeoutError):
                await session.recv(0.05)
            with pytest.raises(BlockingIOError):
                await session.recv(0)
            receiving = asyncio.ensure_future(session.recv())
            await asyncio.sleep(0)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            assert await session.request(b"x", timeout=PATIENCE) == b"x"

    run(work())


def test_closing_ends_what_waits(pool: str) -> None:
    async def work() -> None:
        server = await aio.register(pool)
        receiving = asyncio.ensure_future(server.receive())
        await asyncio.sleep(0.01)
        await server.close()
        with pytest.raises(asap.Error):
            await receiving

    run(work())


def test_a_cancelled_connect_leaves_nothing_open(start: Start, pool: str) -> None:
    start()
    asap.connect(pool).close()
    before = descriptors()

    async def work() -> None:
        own = descriptors()
        for _ in range(5):
            connecting = asyncio.ensure_future(aio.connect(pool))
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        # What the threads make is closed by this loop.
        began = time.monotonic()
        while len(descriptors()) > len(own):
            assert time.monotonic() - began < PATIENCE
            await asyncio.sleep(0.01)

    run(work())
    until(lambda: len(descriptors()) <= len(before), "the closing of descriptors")
