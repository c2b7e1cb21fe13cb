"""multiprocessing, fork and exit."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest

import asap

from conftest import PATIENCE, Start, of_session

METHODS = ["fork", "spawn", "forkserver"]


def ask(pool: str, number: int) -> bytes:
    with asap.connect(pool, timeout=PATIENCE) as session:
        request = b"%d" % number
        return session.request(request, request.__eq__, PATIENCE)


def go_on(session: asap.Session, answers: Any) -> None:
    for number in range(10):
        request = b"child %d" % number
        answers.put(session.request(request, request.__eq__, PATIENCE))
    session.close()


@pytest.mark.parametrize("method", METHODS)
def test_processes_have_sessions_of_their_own(method: str, start: Start, pool: str) -> None:
    start()
    with asap.connect(pool) as session:
        session.request(b"the parent is at it", timeout=PATIENCE)
        with multiprocessing.get_context(method).Pool(4) as workers:
            answers = workers.starmap(ask, [(pool, number) for number in range(20)])
        assert answers == [b"%d" % number for number in range(20)]
        assert session.request(b"still", timeout=PATIENCE) == b"still"


def test_a_forked_child_goes_on_with_a_session(start: Start, pool: str) -> None:
    start()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with asap.connect(pool) as session:
        session.request(b"parent", timeout=PATIENCE)
        child = context.Process(target=go_on, args=(session, answers))
        child.start()
        assert [answers.get(timeout=PATIENCE) for _ in range(10)] == [b"child %d" % number for number in range(10)]
        child.join(PATIENCE)
        assert child.exitcode == 0


def test_a_forked_server_serves_what_the_parent_has_accepted(pool: str) -> None:
    with asap.listen(pool) as listener:
        with asap.connect(pool) as session:
            accepted = listener.accept(PATIENCE)
            child = os.fork()
            if child == 0:
                accepted.send(accepted.recv(PATIENCE))
                accepted.close()
                os._exit(0)
            # The parent's copy; the session is the child's.
            accepted.close()
            session.send(b"forked")
            assert session.recv(PATIENCE) == b"forked"
            assert os.waitpid(child, 0)[1] == 0
        assert [element.identifier for element in asap.resolve(pool)] == [listener.identifier]


def test_a_child_that_ends_ends_nothing_of_its_parent(start: Start, pool: str) -> None:
    start()
    program = f"""
import asap, os, sys
server = asap.register("{pool}-2")
session = asap.connect("{pool}")
if os.fork() == 0:
    sys.exit()
os.wait()
assert session.request(b"x", timeout=60) == b"x"
assert [element.identifier for element in asap.resolve("{pool}-2")] == [server.identifier]
print("well")
session.close()
server.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "well\n", done.stderr


def test_forks_while_threads_log_and_receive_end(start: Start, pool: str) -> None:
    start()
    program = f"""
import asap, logging, os, threading
logging.basicConfig(level="DEBUG", stream=open(os.devnull, "w"))
asap.set_log(logging.getLogger("asap"), logging.DEBUG)
stop = threading.Event()
def work():
    while not stop.is_set():
        with asap.register("{pool}-more") as server, asap.connect("{pool}") as session:
            session.request(b"x", timeout=60)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
stop.set()
for thread in threads:
    thread.join()
print("well")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=2 * PATIENCE)
    assert done.stdout == "well\n", done.stderr


def test_a_forked_child_fails_over(start: Start, pool: str) -> None:
    servers = [start(), start()]
    with asap.connect(pool) as session:
        session.request(b"1", timeout=PATIENCE)
        at = of_session(servers, session.element)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(read, 1)
            good = session.request(b"2", b"2".__eq__, PATIENCE) == b"2"
            os._exit(0 if good else 1)
        at.kill()
        os.write(write, b"x")
        assert os.waitpid(child, 0)[1] == 0
        os.close(read)
        os.close(write)


def test_ending_deregisters_without_a_word(registrar: str, pool: str) -> None:
    program = f"import asap; server = asap.register('{pool}'); print(server.identifier)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stderr == ""
    with pytest.raises(asap.NoSuchPool):
        asap.resolve(pool)


def test_ending_does_not_wait_for_daemon_threads(pool: str) -> None:
    program = f"""
import asap, threading
server = asap.register("{pool}")
threading.Thread(target=server.receive, daemon=True).start()
while not threading.active_count() == 2:
    pass
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    print(f"ended in {time.monotonic() - began:.2f} s")


def test_a_session_is_not_pickled(start: Start, pool: str) -> None:
    start()
    with asap.connect(pool) as session, pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(session)
