"""A registrar, and servers to be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

import pytest

import asap

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROGRAMS = Path(os.environ.get("ASAP_PROGRAMS", ROOT / "target" / "debug"))
PATIENCE = 60.0


class Process:
    """A program that is killed at the end of its test at the latest."""

    def __init__(self, *command: str, **how: object) -> None:
        self.child: "subprocess.Popen[str]" = subprocess.Popen(  # type: ignore[call-overload]
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how
        )

    def line(self) -> str:
        assert self.child.stdout is not None
        return str(self.child.stdout.readline()).rstrip("\n")

    def say(self, text: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(text + "\n")
        self.child.stdin.flush()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        self.child.send_signal(how)
        return self.child.wait(PATIENCE)

    def end(self) -> None:
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            if stream is not None:
                stream.close()


class Server(Process):
    """One of servers.py in a process of its own."""

    def __init__(self, kind: str, pool: str, *arguments: str) -> None:
        super().__init__(sys.executable, str(HERE / "servers.py"), kind, pool, *arguments)
        self.identifier = int(self.line(), 16)


Start = Callable[..., Server]


@pytest.fixture(scope="session", autouse=True)
def registrar() -> Iterator[str]:
    """The registrar's address, which this process and its children use."""
    daemon = Process(
        str(PROGRAMS / "asap-registrar"), "--asap", "127.0.0.1:0", "--enrp", "127.0.0.1:0", "--announce", "off"
    )
    address = ""
    while (line := daemon.line()) != "ready":
        assert daemon.child.poll() is None, "the registrar has ended"
        if line.startswith("asap tcp "):
            address = line.split()[2]
    os.environ["ASAP_REGISTRARS"] = address
    asap.initialize([address], announcements=False)
    yield address
    asap.cleanup()
    daemon.end()


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> str:
    """A pool of the test's own."""
    return f"{request.node.name}-{os.getpid()}"


@pytest.fixture
def start(pool: str) -> Iterator[Start]:
    """Starts servers of the test's pool."""
    servers = []

    def one(kind: str = "echo", *arguments: str) -> Server:
        servers.append(Server(kind, pool, *arguments))
        return servers[-1]

    yield one
    for server in servers:
        server.end()


def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Waits for a condition."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, f"{what} has not come"
        time.sleep(0.01)


def of_session(servers: "list[Server]", element: Optional[int]) -> Server:
    """The server that a session is at."""
    return next(server for server in servers if server.identifier == element)


def descriptors() -> "set[str]":
    """What this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except FileNotFoundError:
            pass
    return found
