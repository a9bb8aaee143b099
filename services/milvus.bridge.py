"""Passes one port of 127.0.0.1 to port 19530 of a server in a network namespace of its own.

    milvus.bridge.py PID PORT_FILE

A socket stays in the namespace it was made in: so this listens first, and then enters the namespace of PID. It ends with
that process, so that a killed server refuses connections as one on this machine would.
"""

import asyncio
import ctypes
import os
import sys

CLONE_NEWNET = 0x4000_0000


async def copy(reader, writer):
    try:
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def pass_on(reader, writer):
    try:
        there = await asyncio.open_connection("127.0.0.1", 19530)
    except OSError:
        writer.close()
        return
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))


async def main(pid, port):
    server = await asyncio.start_server(pass_on, "127.0.0.1", port)
    process, namespace = os.pidfd_open(pid), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "the server's network namespace cannot be entered")
    asyncio.get_running_loop().add_reader(process, lambda: os._exit(0))
    await server.serve_forever()


with open(sys.argv[2], encoding="ascii") as port_file:
    asyncio.run(main(int(sys.argv[1]), int(port_file.read())))
