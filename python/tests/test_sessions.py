"""Sessions, servers, cookies, failover, errors: against a registrar and servers that are killed."""

import errno
import gc
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import List

import pytest

import asap

from conftest import PATIENCE, Process, Start, descriptors, of_session, until


def test_a_message_comes_back(start: Start, pool: str) -> None:
    server = start()
    with asap.connect(pool) as session:
        session.send(b"hello")
        assert session.recv(PATIENCE) == b"hello"
        assert session.element == server.identifier
        assert session.pool == pool.encode()
        assert session.fileno() >= 0
    assert session.closed and session.fileno() == -1


def test_bytes_of_every_kind_and_length_keep_their_ends(start: Start, pool: str) -> None:
    start()
    with asap.connect(pool) as session:
        for data in (
            bytearray(b"\0one\0"),
            memoryview(b"two"),
            bytes(65536),
            bytes(65537),
            os.urandom(3_000_000),
            b"after",
        ):
            session.send(data)
            event = session.receive(PATIENCE)
            assert isinstance(event, asap.Message)
            assert (event.data, event.complete) == (bytes(data), True)


def test_a_killed_server_is_followed_by_another(start: Start, pool: str) -> None:
    servers = [start(), start(), start()]
    told: List[asap.Failover] = []
    with asap.connect(pool) as session:
        session.on_failover(told.append)
        for number in range(200):
            if number in (50, 150):
                at = of_session(servers, session.element)
                at.kill()
                servers.remove(at)
            request = b"%d" % number
            assert session.request(request, request.__eq__, PATIENCE) == request
    assert len(told) == 2
    assert told[0].now == told[1].left
    print(f"gaps: {[round(failover.gap * 1000, 3) for failover in told]} ms")


def test_state_travels_in_the_cookie(start: Start, pool: str) -> None:
    servers = [start("counter"), start("counter")]
    with asap.connect(pool) as session:
        for number in range(1, 11):
            assert session.request(b"count", timeout=PATIENCE) == b"%d" % number
        assert session.has_cookie
        of_session(servers, session.element).kill()
        session.send(b"count")
        with pytest.raises(asap.FailedOver):
            while True:
                assert session.recv(PATIENCE) == b"11"
        # Nothing is done twice: what was sent to the dead one it has not counted, or the next one has.
        counts = [int(session.request(b"count", timeout=PATIENCE)) for _ in range(2)]
        assert 11 <= counts[0] <= 12 and counts[1] == counts[0] + 1


def test_without_auto_failover_the_program_moves_on(start: Start, pool: str) -> None:
    servers = [start(), start()]
    with asap.connect(pool, auto_failover=False) as session:
        assert not session.auto_failover
        assert session.request(b"1", timeout=PATIENCE) == b"1"
        of_session(servers, session.element).kill()
        with pytest.raises(BrokenPipeError):
            session.recv(PATIENCE)
        event = session.receive(PATIENCE)
        assert isinstance(event, asap.FailoverNecessary)
        session.failover(report=True, timeout=PATIENCE)
        assert isinstance(session.receive(PATIENCE), asap.FailoverComplete)
        assert session.request(b"2", timeout=PATIENCE) == b"2"


def test_an_exception_in_a_failover_callback_comes_out_of_the_call(start: Start, pool: str) -> None:
    servers = [start(), start()]
    with asap.connect(pool) as session:
        session.request(b"1", timeout=PATIENCE)

        def refuse(_: asap.Failover) -> None:
            raise LookupError("not there")

        session.on_failover(refuse)
        of_session(servers, session.element).kill()
        with pytest.raises(LookupError, match="not there"):
            session.recv(PATIENCE)
        session.on_failover(None)
        assert session.request(b"2", timeout=PATIENCE) == b"2"


def test_accepted_sessions_serve_and_move_on(start: Start, pool: str) -> None:
    servers = [start("stream"), start("stream")]
    with asap.connect(pool) as session:
        assert session.request(b"1", timeout=PATIENCE) == b"1"
        of_session(servers, session.element).kill()
        assert session.request(b"2", timeout=PATIENCE) == b"2"


def test_a_server_sees_sessions_begin_and_end(pool: str) -> None:
    with asap.register(pool) as server:
        with asap.connect(pool) as session:
            session.send(b"x", ppid=7)
            added = server.receive(PATIENCE)
            assert isinstance(added, asap.SessionAdded)
            message = server.receive(PATIENCE)
            assert message == asap.Message(b"x", added.session, ppid=7, element=server.identifier)
            server.end(added.session)
            assert isinstance(session.receive(PATIENCE), asap.Shutdown)
            assert session.recv(PATIENCE) == b""
        assert isinstance(server.receive(PATIENCE), asap.SessionRemoved)
        with pytest.raises(asap.Error) as failure:
            server.send(b"y", added.session)
        assert failure.value.errno in (errno.ENOTCONN, errno.EPIPE)


def test_loads_are_reported_and_policies_told(pool: str) -> None:
    with asap.watch(pool) as watch, asap.register(pool, asap.Policy("LeastUsed", load=0.25)) as server:
        changes = iter(watch)
        added = next(change for change in changes if change.kind == "added")
        assert added.identifier == server.identifier
        assert added.policy is not None and added.policy.name == "LeastUsed"
        assert added.policy.load == pytest.approx(0.25, abs=1e-6)
        server.report_load(0.75)
        updated = next(change for change in changes if change.kind == "updated")
        assert updated.policy is not None and updated.policy.load == pytest.approx(0.75, abs=1e-6)
        assert updated.protocol == "tcp" and updated.address is not None
        server.deregister()
        assert next(change for change in changes if change.kind == "removed").identifier == added.identifier
        with pytest.raises(TimeoutError):
            while True:
                assert watch.next(0.05).kind == "up to date"
        with pytest.raises(BlockingIOError):
            watch.next(0)


def test_a_deregistered_server_serves_its_sessions_on(pool: str) -> None:
    with asap.register(pool, identifier=0x77) as server:
        assert server.identifier == 0x77
        with asap.connect(pool) as session:
            server.deregister()
            with pytest.raises(asap.NoSuchPool):
                asap.connect(pool)
            session.send(b"still")
            assert next(server.messages()).data == b"still"
            server.register()
            assert [element.identifier for element in asap.resolve(pool)] == [0x77]


def test_a_plain_tcp_client_is_served(pool: str) -> None:
    with asap.listen(pool, address=("127.0.0.1", 0), data_only=True) as listener:
        (element,) = asap.resolve(pool)
        assert element.protocol == "tcp"
        with socket.create_connection(element.addresses[0], PATIENCE) as plain:
            plain.sendall(b"hello")
            with listener.accept(PATIENCE) as session:
                assert session.recv(PATIENCE) == b"hello"
                session.send(b"hi")
                assert plain.recv(10) == b"hi"
                with pytest.raises(asap.Error) as failure:
                    session.send_cookie(b"state")
                assert failure.value.errno == errno.EOPNOTSUPP


def test_failures_are_pythons_exceptions_with_the_librarys_sentence(pool: str) -> None:
    with pytest.raises(FileNotFoundError, match="no element") as unknown:
        asap.connect(pool)
    assert isinstance(unknown.value, asap.NoSuchPool) and unknown.value.errno == errno.ENOENT
    with pytest.raises(asap.Error) as empty:
        asap.connect("")
    assert empty.value.errno == errno.EINVAL and empty.value.strerror
    with pytest.raises(ValueError, match="Nonsense"):
        asap.register(pool, "Nonsense")
    with asap.register(pool):
        with pytest.raises(asap.Error) as policy:
            asap.register(pool, "Random")
        assert policy.value.errno == errno.EPROTOTYPE and "policy" in str(policy.value)


def test_a_report_about_a_dead_element_has_it_removed(start: Start, pool: str) -> None:
    server = start()
    with asap.watch(pool) as watch:
        next(change for change in watch if change.kind == "added")
        server.kill()
        asap.report_failure(pool, server.identifier)
        assert next(change for change in watch if change.kind != "up to date").kind == "removed"


def test_waiting_ends_in_time_and_at_once(pool: str) -> None:
    with asap.register(pool) as server:
        with pytest.raises(BlockingIOError):
            server.receive(0)
        with pytest.raises(TimeoutError):
            server.receive(0.05)
        with pytest.raises(ValueError):
            server.receive(-1)


def test_a_descriptor_is_readable_when_something_comes(start: Start, pool: str) -> None:
    start()
    with asap.connect(pool) as session:
        session.send(b"x")
        ready, _, _ = select.select([session], [], [], PATIENCE)
        assert ready == [session]
        assert session.recv(PATIENCE) == b"x"


def test_close_ends_what_other_threads_wait_for(pool: str) -> None:
    server = asap.register(pool)
    got: List[object] = []
    thread = threading.Thread(target=lambda: got.extend(server))
    thread.start()
    time.sleep(0.05)
    server.close()
    thread.join(PATIENCE)
    assert not thread.is_alive() and got == []


def test_python_runs_on_while_a_call_waits(pool: str) -> None:
    with asap.register(pool) as server:
        thread = threading.Thread(target=lambda: next(server.messages()))
        thread.start()
        # This thread would not get Python's lock.
        with asap.connect(pool) as session:
            session.send(b"x")
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_threads_share_a_session_and_each_message_goes_to_one(start: Start, pool: str) -> None:
    start()
    got: List[bytes] = []
    with asap.connect(pool) as session:

        def receive() -> None:
            for _ in range(25):
                got.append(session.recv(PATIENCE))

        threads = [threading.Thread(target=receive) for _ in range(4)]
        for thread in threads:
            thread.start()
        sent = [b"%05d" % number * 20000 for number in range(100)]
        for data in sent:
            session.send(data)
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(got) == sent


WAITING = """
import sys, asap
what, pool = sys.argv[1:]
try:
    if what == "receive":
        with asap.register(pool) as server:
            print("waits", flush=True)
            server.receive()
    elif what == "connect":
        print("waits", flush=True)
        asap.connect(pool, timeout=600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("what", ["receive", "connect"])
def test_ctrl_c_ends_a_call_that_waits(what: str, pool: str) -> None:
    # Nobody serves port 1.
    environment = {**os.environ, **({"ASAP_REGISTRARS": "127.0.0.1:1"} if what == "connect" else {})}
    program = Process(sys.executable, "-c", WAITING, what, pool, env=environment)
    assert program.line() == "waits"
    time.sleep(0.2)
    began = time.monotonic()
    assert program.kill(signal.SIGINT) == 0
    assert program.line() == "interrupted"
    print(f"interrupted and ended in {time.monotonic() - began:.3f} s")
    assert time.monotonic() - began < 10
    program.end()


def test_signal_handlers_run_while_a_call_waits(pool: str) -> None:
    ran = threading.Event()
    former = signal.signal(signal.SIGALRM, lambda *_: ran.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with asap.register(pool) as server:
            with pytest.raises(TimeoutError):
                server.receive(0.5)
        assert ran.is_set()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_nothing_stays_open_after_close(start: Start, pool: str) -> None:
    start()
    with asap.connect(pool) as session:
        session.request(b"x", timeout=PATIENCE)
    before = descriptors()
    for _ in range(10):
        with asap.connect(pool) as session, asap.register(pool), asap.watch(pool):
            pass
    until(lambda: len(descriptors()) <= len(before), "the closing of descriptors")


def test_what_was_forgotten_is_closed_with_a_warning(start: Start, pool: str) -> None:
    start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session = asap.connect(pool)
        number = session.fileno()
        del session
        gc.collect()
    assert any(issubclass(warning.category, ResourceWarning) for warning in caught)
    assert not any(name.startswith(f"{number} ") and "eventpoll" in name for name in descriptors())


def test_the_log_goes_to_a_logger(pool: str) -> None:
    program = f"""
import asap, logging
logging.basicConfig(format="%(name)s %(levelname)s %(message)s", level="INFO")
asap.set_log(logging.getLogger("pools"), logging.INFO)
with asap.register("{pool}"):
    pass
asap.set_log(None)
asap.cleanup()
logging.getLogger("end").info("nothing after this")
with asap.register("{pool}"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pools.asap.socket.context INFO using the registrar at" in done.stderr
    assert done.stderr.endswith("end INFO nothing after this\n")


def test_a_program_hosts_its_registrar(tmp_path: object) -> None:
    program = """
import threading, asap
with asap.Registrar("127.0.0.1:0", "127.0.0.1:0") as registrar:
    asap.initialize([registrar.asap], announcements=False)
    with asap.register("Pool") as server, asap.connect("Pool") as session:
        session.send(b"x")
        print(next(server.messages()).data.decode())
"""
    environment = {key: value for key, value in os.environ.items() if key != "ASAP_REGISTRARS"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr, done.returncode) == ("x\n", "", 0)


def test_a_library_that_is_no_libasap_is_refused_in_a_sentence() -> None:
    for library, sentence in (
        ("/nonexistent.so", "install it, or name the file"),
        ("libc.so.6", "it has no asap_last_error"),
    ):
        environment = {**os.environ, "LIBASAP": library}
        done = subprocess.run([sys.executable, "-c", "import asap"], env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and sentence in done.stderr
