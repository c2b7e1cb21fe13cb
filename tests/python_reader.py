"""A descriptor of libasap as an asyncio reader: it wakes up for the answer, for the failover, and for the answer after it.

    python_reader.py LIBRARY POOL

Prints "ready" after the first answer; reads a line when the server is being killed.
"""
import asyncio
import ctypes
import sys

SOCK_SEQPACKET = 5
SOL_RSERPOOL = 0x5253
RSP_AUTO_FAILOVER = 1
NOTIFICATION = 1
FAILOVER, COMPLETE = 2, 2

asap = ctypes.CDLL(sys.argv[1], use_errno=True)
asap.asap_last_error.restype = ctypes.c_char_p
for name in ("rsp_write", "rsp_recvmsg"):
    getattr(asap, name).restype = ctypes.c_ssize_t
pool = sys.argv[2].encode()


def check(result):
    if result < 0:
        sys.exit(asap.asap_last_error().decode())
    return result


async def main():
    check(asap.rsp_initialize(None))
    sd = check(asap.rsp_socket(0, SOCK_SEQPACKET, 0))
    on = ctypes.c_int(1)
    check(asap.rsp_setsockopt(sd, SOL_RSERPOOL, RSP_AUTO_FAILOVER, ctypes.byref(on), 4))
    check(asap.rsp_connect(sd, pool, ctypes.c_size_t(len(pool)), 0))

    events = asyncio.Queue()

    def readable():
        buffer = ctypes.create_string_buffer(256)
        flags = ctypes.c_int(0)
        got = asap.rsp_recvmsg(sd, buffer, ctypes.c_size_t(256), None, ctypes.byref(flags), 0)
        if got < 0:  # EAGAIN: readable means "look"
            return
        if not flags.value & NOTIFICATION:
            events.put_nowait(buffer.raw[:got])
        elif (int.from_bytes(buffer.raw[0:2], sys.byteorder), int.from_bytes(buffer.raw[8:12], sys.byteorder)) == (
            FAILOVER,
            COMPLETE,
        ):
            events.put_nowait("moved")

    async def until(what):
        while await asyncio.wait_for(events.get(), 60) != what:
            pass

    loop = asyncio.get_running_loop()
    loop.add_reader(sd, readable)
    check(asap.rsp_write(sd, b"before", ctypes.c_size_t(6)))
    await until(b"before")
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    await until("moved")
    check(asap.rsp_write(sd, b"after", ctypes.c_size_t(5)))
    await until(b"after")
    loop.remove_reader(sd)
    check(asap.rsp_close(sd))
    asap.rsp_cleanup()
    print("done", flush=True)


asyncio.run(main())
