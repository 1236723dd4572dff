"""What stands before and behind a program under test.

peers.py serve PORT TEXT    answers each HTTP request on the port with the text, 20 ms later, and closes; "ready" first
peers.py load PORT          300 requests, 30 at once: for each a line, its seconds and what came back
peers.py spawn COMMAND...   the command 300 times, 30 at once: the same lines
peers.py p99 PORT PORT      the 99th percentile of a static page of both, in ms, while ten clients ask for the other page

The clients name their ports, outside of every range: they take none from the program.
"""

import asyncio
import itertools
import socket
import subprocess
import sys
import threading
import time

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


def at_once(act):
    """Calls act() in threads, and prints what it returns with the time it took."""
    left = iter(range(300))
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


def load(port):
    def request():
        with connect(int(port)) as made:
            made.sendall(b"GET / HTTP/1.0\r\n\r\n")
            head, _, body = b"".join(iter(lambda: made.recv(4096), b"")).partition(b"\r\n\r\n")
        status = head.split()[1].decode() if head else "nothing"
        return body.decode().strip() if status == "200" else status

    at_once(request)


def spawn(*command):
    def run():
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode().strip().splitlines()[-1]

    at_once(run)


def send(made, path):
    made.write(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    made.flush()


def status(made):
    status = made.readline().split()[1].decode()
    for line in iter(made.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split()[1])
    made.read(length)
    return status


def bother(port, first):
    """Ten clients that never get anything from upstream."""
    global own_ports
    own_ports = itertools.count(first)

    def work(made):
        while True:
            send(made, "/")
            if status(made) != "502":
                sys.exit("upstream has answered")

    for _ in range(10):
        threading.Thread(target=work, args=(connect(port).makefile("rwb"),)).start()


def p99(*ports):
    times = {port: [] for port in ports}

    def ask(made, start):
        for number in range(200):
            time.sleep(max(0, start + 0.01 * number - time.monotonic()))
            send(made, "/static.html")

    # In turns, so that whatever else the machine does meets both.
    for turn, port in enumerate(ports * 5):
        with subprocess.Popen([sys.executable, __file__, "bother", str(port), str(3000 + 10 * turn)]) as others:
            made = connect(port).makefile("rwb")
            start = time.monotonic()
            # Every 10 ms, also while nothing comes back: who waits for an answer asks less often when it takes long.
            threading.Thread(target=ask, args=(made, start)).start()
            for number in range(200):
                if status(made) != "200":
                    sys.exit("no static page")
                times[port].append(1000 * (time.monotonic() - start) - 10 * number)
            if others.poll() is not None:
                sys.exit("nobody else asked")
            others.kill()
    for port in ports:
        times[port].sort()
        print(f"{times[port][len(times[port]) * 99 // 100]:.1f}", end=" " if port == ports[0] else "\n")


kind, *arguments = sys.argv[1:]
if kind == "serve":
    asyncio.run(serve(int(arguments[0]), arguments[1]))
elif kind in ("p99", "bother"):
    {"p99": p99, "bother": bother}[kind](*map(int, arguments))
else:
    {"load": load, "spawn": spawn}[kind](*arguments)
