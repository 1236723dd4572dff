"""Programs in asyncio: clients.py [SOURCE] makes 300 connections, 30 at once; clients.py held SOURCE holds 40."""

import asyncio
import sys
import time


async def connect(source):
    return await asyncio.open_connection("127.0.0.1", 9000, local_addr=(source, 0) if source else None)


async def request(source, room):
    async with room:
        started = time.monotonic()
        try:
            reader, writer = await connect(source)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            said = (await reader.read()).split()[-1].decode()
            writer.close()
        except OSError as error:
            said = type(error).__name__
        print(f"{time.monotonic() - started:.3f} {said}")


async def hold(source):
    held = []
    for _ in range(40):
        started = time.monotonic()
        try:
            held.append(await connect(source))
            said = "held"
        except OSError as error:
            said = type(error).__name__
        print(f"{time.monotonic() - started:.3f} {said}")


async def main(arguments):
    if arguments and arguments[0] == "held":
        return await hold(arguments[1])
    room = asyncio.Semaphore(30)
    await asyncio.gather(*(request(arguments[0] if arguments else None, room) for _ in range(300)))


asyncio.run(main(sys.argv[1:]))
