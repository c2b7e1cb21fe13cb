"""Servers for the tests: servers.py KIND POOL. Each prints its identifier and serves until it is killed.

echo      answers with what came, in messages
counter   counts the requests of a session; the count travels in the cookie
stream    as echo, a thread for each accepted session
plain     the same by TCP, with a socket of its own
"""

import random
import socket
import sys
import threading

import asap


def echo(pool: str) -> None:
    with asap.register(pool) as server:
        print(f"{server.identifier:x}", flush=True)
        for message in server.messages():
            server.send(message.data, message.session)


def counter(pool: str) -> None:
    counts: "dict[int, int]" = {}
    with asap.register(pool) as server:
        print(f"{server.identifier:x}", flush=True)
        for event in server:
            if isinstance(event, asap.Cookie):
                counts[event.session] = int(event.data)
            elif isinstance(event, asap.SessionRemoved):
                counts.pop(event.session, None)
            elif isinstance(event, asap.Message):
                counts[event.session] = counts.get(event.session, 0) + 1
                text = b"%d" % counts[event.session]
                server.send_cookie(text, event.session)
                server.send(text, event.session)


def stream(pool: str) -> None:
    def serve(session: asap.Session) -> None:
        with session:
            while data := session.recv():
                session.send(data)

    with asap.listen(pool) as listener:
        print(f"{listener.identifier:x}", flush=True)
        for session in listener:
            threading.Thread(target=serve, args=(session,), daemon=True).start()


def plain(pool: str) -> None:
    def serve(connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        identifier = random.randrange(1, 1 << 32)
        asap.serve(listening, pool, identifier=identifier)
        print(f"{identifier:x}", flush=True)
        while True:
            threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    {"echo": echo, "counter": counter, "stream": stream, "plain": plain}[sys.argv[1]](sys.argv[2])
