"""What stands before and behind a program under test.

peers.py serve PORT TEXT    answers each HTTP request on the port with the text, 20 ms later, and closes; "ready" first
peers.py load URL [COUNT]   as many requests, 30 at once: for each a line, its seconds and what came back
peers.py spawn COMMAND...   the command 300 times, 30 at once: the same lines

The clients name their ports, outside of every range: they take none from the program.
"""

import asyncio
import itertools
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

AT_ONCE = 30
own_ports = itertools.count(2000)


def connect(port):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", next(own_ports)))
    made.connect(("127.0.0.1", port))
    made.settimeout(30)
    return made


async def serve(port, text):
    async def answer(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.02)
            writer.write(f"HTTP/1.0 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(answer, None, port, backlog=4096)
    print("ready", flush=True)
    await server.serve_forever()


def at_once(count, act):
    """Calls act() in threads, and prints what it returns with the time it took."""
    left = iter(range(count))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                if next(left, None) is None:
                    return
            started = time.monotonic()
            try:
                said = act()
            except OSError as error:
                said = error.strerror or type(error).__name__
            took = time.monotonic() - started
            with lock:
                print(f"{took:.3f} {said}", flush=True)

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def load(url, count=300):
    url = urllib.parse.urlsplit(url)

    def request():
        with connect(url.port) as made:
            made.sendall(f"GET {url.path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: made.recv(4096), b"")).partition(b"\r\n\r\n")
        status = head.split()[1].decode() if head else "nothing"
        return body.decode().strip() if status == "200" else status

    at_once(int(count), request)


def spawn(*command):
    def run():
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode().strip().splitlines()[-1]

    at_once(300, run)


kind, *arguments = sys.argv[1:]
if kind == "serve":
    asyncio.run(serve(int(arguments[0]), arguments[1]))
else:
    {"load": load, "spawn": spawn}[kind](*arguments)
