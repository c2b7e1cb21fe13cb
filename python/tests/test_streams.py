"""Streams to pools, and listening sockets as elements of one: against a registrar and servers that are killed."""

import asyncio
import errno
import gc
import logging
import multiprocessing
import signal
import socket
import sys
import threading
import time
import warnings
from typing import Any, Iterator, List

import pytest

import asap
from asap import aio

from conftest import PATIENCE, Process, Start, descriptors, until
from test_aio import run
from test_processes import METHODS


def exchange(stream: socket.socket, data: bytes) -> bytes:
    stream.settimeout(PATIENCE)
    stream.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := stream.recv(65536)):
        got += piece
    return got


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A server's socket."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def sockets() -> int:
    return sum("socket:" in descriptor for descriptor in descriptors())


def elements(pool: str) -> int:
    try:
        return len(asap.resolve(pool))
    except asap.NoSuchPool:
        return 0


def test_a_stream_is_a_socket(start: Start, pool: str) -> None:
    start("plain")
    # There is a connection to the registrar from now on.
    asap.resolve(pool)
    before = sockets()
    with asap.open(pool) as stream:
        assert exchange(stream, b"hello") == b"hello"
        with stream.makefile("rw") as file:
            file.write("a line\n")
            file.flush()
            assert file.readline() == "a line\n"
        data = bytes(range(256)) * 4096
        sending = threading.Thread(target=stream.sendall, args=(data,))
        sending.start()
        got = b""
        while len(got) < len(data):
            got += stream.recv(65536)
        sending.join(PATIENCE)
        assert got == data
        assert asap.peername(stream) in asap.resolve(pool)[0].addresses
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(1) == b""
    until(lambda: sockets() <= before, "the end of what carried the stream")
    with pytest.raises(asap.Error) as failure:
        asap.peername(-1)
    assert failure.value.errno == errno.EBADF


def test_a_stream_whose_server_is_killed_is_reset_and_the_next_reaches_another(start: Start, pool: str) -> None:
    first = start("echo")
    with asap.open(pool) as stream:
        assert exchange(stream, b"1") == b"1"
        start("echo")
        first.kill()
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
        with pytest.raises(BrokenPipeError):
            stream.sendall(b"2")
    with asap.open(pool) as stream:
        assert exchange(stream, b"2") == b"2"


@pytest.mark.parametrize("kind", ["echo", "plain"])
def test_a_stream_that_is_to_resume_goes_on(start: Start, pool: str, kind: str) -> None:
    first = start(kind)
    with asap.open(pool, failover="resume", failover_deadline=PATIENCE, timeout=PATIENCE) as stream:
        assert exchange(stream, b"1") == b"1"
        start(kind)
        first.kill()
        # What is written before the failure is seen may be lost.
        give_up = time.monotonic() + PATIENCE
        stream.settimeout(0.2)
        while True:
            assert time.monotonic() < give_up
            stream.sendall(b"2")
            try:
                assert set(stream.recv(100)) == set(b"2")
                break
            except TimeoutError:
                continue


def test_what_is_wrong_is_said(start: Start, pool: str, listening: socket.socket) -> None:
    with pytest.raises(asap.NoSuchPool, match=pool):
        asap.open(pool)
    for name, options, said in (
        (f"pool://{pool}?conect_timeout=1s", {}, "conect_timeout"),
        (f"pool://{pool}?timeout=1s", {"timeout": 2.0}, "timeout"),
        (pool, {"failover": "perhaps"}, "perhaps"),
    ):
        with pytest.raises(asap.Error, match=said) as failure:
            asap.open(name, **options)
        assert failure.value.errno == errno.EINVAL
    with pytest.raises(ValueError):
        asap.open("pool://a\0b")
    with socket.socket() as unbound, pytest.raises(asap.Error, match="not bound"):
        asap.serve(unbound, pool)
    with pytest.raises(ValueError, match="a load goes from"):
        asap.serve(listening, pool, asap.Policy("LeastUsed", load=2))
    assert elements(pool) == 0


def test_a_handle_is_any_bytes(listening: socket.socket, pool: str) -> None:
    odd = b"a%?&=\xff\0 " + pool.encode()
    with asap.serve(listening, odd):
        assert len(asap.resolve(odd)) == 1
        with asap.open(odd, timeout=PATIENCE) as stream:
            assert asap.peername(stream) == listening.getsockname()


def test_a_served_socket_is_in_its_pool_until_it_is_closed(listening: socket.socket, pool: str) -> None:
    with asap.serve(listening, pool, identifier=0x77) as serving:
        assert [element.identifier for element in asap.resolve(pool)] == [0x77]
        assert asap.resolve(pool)[0].addresses == (listening.getsockname(),)
    assert elements(pool) == 0
    serving.close()
    # Nobody keeps this one; the socket's end is its end.
    asap.serve(listening, pool)
    gc.collect()
    assert elements(pool) == 1
    later = asap.serve(listening.fileno(), pool)
    listening.close()
    until(lambda: elements(pool) == 0, "leaving the pool")
    later.close()


def test_a_server_says_whether_it_is_well_and_how_loaded(
    listening: socket.socket, pool: str, caplog: pytest.LogCaptureFixture
) -> None:
    state: Any = {"well": True, "load": 0.0}

    def health() -> bool:
        if state["well"] is None:
            raise LookupError("nobody knows")
        return bool(state["well"])

    with asap.watch(pool) as watch, asap.serve(
        listening,
        pool,
        asap.Policy("LeastUsed"),
        health=health,
        load=lambda: float(state["load"]),
        health_interval=0.02,
        timeout=PATIENCE,
    ):
        until(lambda: watch.next(PATIENCE).kind == "added", "the element")
        state["load"] = 0.5

        def loaded() -> bool:
            policy = watch.next(PATIENCE).policy
            return policy is not None and abs(policy.load - 0.5) < 0.01

        until(loaded, "the load")
        for ill in (False, None):
            with caplog.at_level(logging.CRITICAL if ill is False else logging.ERROR, "asap"):
                state["well"] = ill
                until(lambda: elements(pool) == 0, "leaving the pool")
                state["well"] = True
                until(lambda: elements(pool) == 1, "coming back")
    assert "nobody knows" in caplog.text


def test_a_killed_server_of_python_is_followed_by_another(start: Start, pool: str) -> None:
    """Both sides: plain servers in Python, a client that opens again."""
    servers = [start("plain"), start("plain")]
    answers = 0
    stream = asap.open(pool)
    for number in range(100):
        if number == 50:
            servers.pop(0).kill()
        request = b"%d" % number
        while True:
            try:
                if exchange(stream, request) == request:
                    break
            except ConnectionError:
                pass
            stream.close()
            stream = asap.open(pool, timeout=PATIENCE)
        answers += 1
    stream.close()
    assert answers == 100


def test_ctrl_c_gets_through_and_leaves_nothing_open(pool: str) -> None:
    program = """
import asap, gc, os, socket, sys, warnings
warnings.simplefilter("error")
with socket.socket() as silent:
    # A registrar that does not answer.
    silent.bind(("127.0.0.1", 0))
    silent.listen()
    asap.initialize(["127.0.0.1:%d" % silent.getsockname()[1]], announcements=False)
    try:
        print("ready", flush=True)
        asap.open(sys.argv[1], timeout=60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    process = Process(sys.executable, "-c", program, pool, env={"PATH": ""})
    try:
        assert process.line() == "ready"
        process.child.send_signal(signal.SIGINT)
        assert process.line() == "interrupted"
        assert process.child.wait(PATIENCE) == 0
    finally:
        process.end()


def in_a_child(stream: socket.socket, answers: Any) -> None:
    answers.put(exchange(stream, b"child"))
    stream.close()


def opens(pool: str, answers: Any) -> None:
    with asap.open(pool, timeout=PATIENCE) as stream:
        answers.put(exchange(stream, b"own"))


@pytest.mark.parametrize("method", METHODS)
def test_processes_use_a_stream_and_open_their_own(method: str, start: Start, pool: str) -> None:
    start("plain")
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    with asap.open(pool) as stream:
        exchange(stream, b"parent")
        for target, arguments, wanted in (
            (in_a_child, (stream, answers), b"child"),
            (opens, (pool, answers), b"own"),
        ):
            child = context.Process(target=target, args=arguments)
            child.start()
            assert answers.get(timeout=PATIENCE) == wanted
            child.join(PATIENCE)
            assert child.exitcode == 0
        assert exchange(stream, b"still") == b"still"


def test_a_forked_child_that_ends_leaves_its_parent_in_the_pool(listening: socket.socket, pool: str) -> None:
    context = multiprocessing.get_context("fork")
    with asap.serve(listening, pool, health=lambda: True, health_interval=0.02) as serving:
        child = context.Process(target=serving.close)
        child.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        assert elements(pool) == 1


def test_asyncio_streams_go_on_by_opening_again(start: Start, pool: str) -> None:
    first = start("echo")

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        writer.write(data)
        await writer.drain()
        return await reader.readexactly(len(data))

    async def work() -> None:
        reader, writer = await aio.open_connection(pool)
        assert await ask(reader, writer, b"one") == b"one"
        assert asap.peername(writer.get_extra_info("socket"))[1] > 0
        await asyncio.to_thread(start, "echo")
        first.kill()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        reader, writer = await aio.open_connection(pool, timeout=PATIENCE)
        assert await ask(reader, writer, b"two") == b"two"
        writer.close()
        await writer.wait_closed()
        with pytest.raises(asap.NoSuchPool):
            await aio.open_connection(pool + " not there")

    run(work())


def test_a_cancelled_open_connection_leaves_nothing_open(start: Start, pool: str) -> None:
    start("plain")
    asap.open(pool).close()

    async def work() -> None:
        own = descriptors()
        for _ in range(5):
            opening = asyncio.ensure_future(aio.open_connection(pool))
            await asyncio.sleep(0)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        began = time.monotonic()
        while len(descriptors()) > len(own):
            assert time.monotonic() - began < PATIENCE
            await asyncio.sleep(0.01)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(work())


def test_a_server_of_asyncio_is_in_its_pool_while_its_loop_turns(pool: str) -> None:
    loads: List[float] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    def load() -> float:
        asyncio.get_running_loop()
        loads.append(0.25)
        return loads[-1]

    async def work() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, await aio.serve(
            server.sockets[0], pool, "LeastUsed", load=load, health_interval=0.02, health_timeout=0.2
        ):
            reader, writer = await aio.open_connection(pool)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            while not loads:
                await asyncio.sleep(0.01)
            # The loop is stuck, in here.
            until(lambda: elements(pool) == 0, "leaving the pool")
            began = time.monotonic()
            while await asyncio.to_thread(elements, pool) == 0:
                assert time.monotonic() - began < PATIENCE
        assert elements(pool) == 0

    run(work())
