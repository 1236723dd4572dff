#!/usr/bin/env python3
"""The kernel as oracle: random holders on a few ports, in every state, family and with every option. A listener is had
if and only if some port can be listened on, a connection if and only if connect(2), or bind(2) by name and connect(2),
makes one. Census and report agree with it.

    oracle.py [SEED]        five seconds; IC_LISTENER_TEST_SECONDS changes that
"""
import ctypes as c
import os
import random
import socket
import sys
import time

CLONE_NEWNET = 0x40000000
IPV6_V6ONLY = 26
IP_LOCAL_PORT_RANGE = 51
IP_BIND_ADDRESS_NO_PORT = 24
PORTS = 4                       # of a round
SERVER = 900
LIBRARY = "target/lib/libic_listener.so"


def skip(why):
    print("1..1\nok 1 - oracle # SKIP " + why)
    sys.exit(0)


class Options(c.Structure):
    _fields_ = [("size", c.c_uint32), ("backlog", c.c_int32), ("address", c.c_char_p), ("port_min", c.c_int32),
                ("port_max", c.c_int32)]


class Holders(c.Structure):
    _fields_ = [("source", c.c_int32), ("complete", c.c_int32)] + [(name, c.c_uint32) for name in (
        "listening", "bound", "connected", "closing", "time_wait", "unseen", "next_s", "last_s")]

    def total(self):
        return self.listening + self.bound + self.connected + self.closing + self.time_wait + self.unseen


class Report(c.Structure):
    _fields_ = [("size", c.c_uint32)] + [(name, c.c_int32) for name in (
        "error", "step", "family", "origin", "port", "port_min", "port_max")] + [(name, c.c_uint32) for name in (
            "tried", "in_use", "forbidden", "reserved", "lost", "taken")] + [
                ("holders", Holders), ("elapsed_ns", c.c_uint64), ("message", c.c_char * 256)]


class Census(c.Structure):
    _fields_ = [("size", c.c_uint32), ("error", c.c_int32), ("port_min", c.c_int32), ("port_max", c.c_int32),
                ("ports", c.c_uint32), ("reserved", c.c_uint32), ("holders", Holders), ("elapsed_ns", c.c_uint64),
                ("message", c.c_char * 256)]


def is_v6(address):
    return ":" in address


def sockaddr(address, port):
    if is_v6(address):
        raw = socket.AF_INET6.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + bytes(4) + \
            socket.inet_pton(socket.AF_INET6, address) + bytes(4)
    else:
        raw = socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2, "big") + \
            socket.inet_pton(socket.AF_INET, address) + bytes(8)
    return c.create_string_buffer(raw, len(raw)), len(raw)


def tcp(address, reuse, v6only=False):
    made = socket.socket(socket.AF_INET6 if is_v6(address) else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
    if is_v6(address):
        made.setsockopt(socket.IPPROTO_IPV6, IPV6_V6ONLY, v6only)
    return made


def close(connection, seconds):
    """Waits so long until the peer has acknowledged it. With 0 the connection is reset, and leaves no TIME_WAIT."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, seconds, 0, 0, 0]))
    connection.close()


class Host:
    def __init__(self, rnd):
        self.rnd = rnd
        self.servers = {}
        for address in ("0.0.0.0", "::"):
            self.servers[address] = tcp(address, True, True)
            self.servers[address].bind((address, SERVER))
            self.servers[address].listen(4096)
        self.held = []
        self.closing = set()
        self.connected_by_v6 = set()

    def accept(self, ours, destination):
        """The other end; connections that the tests have reset may stand before it."""
        while True:
            theirs, peer = self.servers["::" if destination == "::1" else "0.0.0.0"].accept()
            if peer[1] == ours.getsockname()[1]:
                return theirs
            theirs.close()

    def hold(self, port):
        """One more holder of the port, if it can be had: listening, bound, connected, closing, in TIME_WAIT."""
        kind = self.rnd.choice("llbbccft")
        address = self.rnd.choice(["0.0.0.0", "127.0.0.1", "127.0.0.5", "::", "::1", "::ffff:127.0.0.1"])
        v6only = address in ("::", "::1") and self.rnd.random() < .3
        ours = tcp(address, self.rnd.random() < .45, v6only)
        try:
            ours.bind((address, port))
            if kind == "l":
                ours.listen(4)
            elif kind != "b":
                by_v6 = address == "::1" or (address == "::" and (v6only or self.rnd.random() < .5))
                destination = "::1" if by_v6 else "::ffff:127.0.0.1" if is_v6(address) else "127.0.0.1"
                ours.connect((destination, SERVER))
                if by_v6:
                    self.connected_by_v6.add(port)
                theirs = self.accept(ours, destination)
                # What goes on to FIN_WAIT2 or TIME_WAIT while the kernel lists it may be missing in the census.
                if kind != "c":
                    close(ours, 60)
                if kind == "f":
                    self.closing.add(port)
                if kind != "t":
                    self.held.append(theirs)
                else:
                    close(theirs, 60)
            self.held.append(ours)
        except OSError:
            ours.close()

    def new_round(self, ports):
        for one in self.held:
            one.close()
        self.held.clear()
        self.closing.clear()
        self.connected_by_v6.clear()
        for port in ports:
            for _ in range(self.rnd.choice((1, 1, 2, 2, 3, 4))):
                self.hold(port)


def can_listen(address, port, reuse):
    with tcp(address, reuse) as one:
        try:
            one.bind((address, port))
            one.listen(1)
            return True
        except OSError:
            return False


def can_connect(source, destination, port):
    """With bind(2) by name, or without (port 0)."""
    one = tcp(destination, True)
    try:
        if port != 0:
            one.bind((source, port))
        one.connect((destination, SERVER))
        return True
    except OSError:
        return False
    finally:
        close(one, 0)


class Test:
    def __init__(self, library):
        self.library = library
        self.wrong = 0
        self.calls = {}

    def expect(self, condition, *what):
        if not condition:
            self.wrong += 1
            print("#", *what)

    def count(self, what, succeeded):
        yes, no = self.calls.get(what, (0, 0))
        self.calls[what] = (yes + succeeded, no + (not succeeded))

    def open_tcp(self, address, ports, connected_by_v6):
        where = address or "::"
        options = Options(c.sizeof(Options), 0, address.encode() if address else None, ports[0], ports[-1])
        report = Report(c.sizeof(Report))
        port, fd = c.c_int(), c.c_int()
        had = self.library.ic_listener_open_tcp(c.byref(options), c.byref(port), c.byref(fd), c.byref(report)) == 0
        if had:
            os.close(fd.value)
        can = [one for one in ports if can_listen(where, one, True)]
        free = [one for one in ports if can_listen(where, one, False)]
        self.count("open_tcp", had)
        self.expect(had == bool(can), "open_tcp", address, had, "but", can, report.message)
        if had:
            self.expect(port.value in can and report.port == port.value, "port", port.value, report.port, can)
            self.expect(report.origin != 1 or port.value in free, "port", port.value, "was not free", free)
        else:
            self.expect(report.in_use == PORTS == report.holders.total(), "report", address, report.message)
        census = Census(c.sizeof(Census))
        self.expect(self.library.ic_listener_census(c.byref(options), c.byref(census)) == 0, census.message)
        self.expect(census.holders.total() == census.ports == PORTS, "census", address, census.message)
        # Linux does not show which IPv6 connections leave IPv4's wildcard alone.
        unseen = [port for port in free if address != "0.0.0.0" or port not in connected_by_v6]
        if shows_bound:
            self.expect(census.holders.unseen == len(unseen), "census", address, unseen, census.message)

    def bind_and_listen(self, address, ports):
        one = tcp(address, False)
        one.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, ports[0] | ports[-1] << 16)
        name, length = sockaddr(address, 0)
        had = self.library.ic_listener_bind(one.fileno(), name, length, None) == 0 and \
            self.library.ic_listener_listen(one.fileno(), 4, None) == 0
        port = one.getsockname()[1]
        one.close()
        can = [one for one in ports if can_listen(address, one, True)]
        self.count("bind and listen", had)
        self.expect(had == bool(can), "bind and listen", address, had, "but", can)
        self.expect(port in can if had else port == 0, "bind and listen", address, "port", port, can)

    def connect(self, source, destination, ports, closing):
        one = tcp(destination, False)
        one.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, ports[0] | ports[-1] << 16)
        if source:
            one.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            one.bind((source, 0))
        name, length = sockaddr(destination, SERVER)
        report = Report(c.sizeof(Report))
        had = self.library.ic_listener_connect(one.fileno(), name, length, c.byref(report)) == 0
        self.count("connect", had)
        self.expect(one.getsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE) == ports[0] | ports[-1] << 16, "window", one)
        self.expect(one.getsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT) == bool(source), "no port yet", one)
        self.expect(source in (None, one.getsockname()[0]), "from", source, one)
        if had:
            self.expect(one.getsockname()[1] in ports and one.getpeername()[1] == SERVER, "connected", one)
            close(one, 0)
            return
        self.expect(one.getsockname()[1] == 0, "port", one.getsockname(), "is left")
        one.close()
        source = source or destination
        # Linux lets a connection that only its program has closed be taken over, too; its peer would be cut off.
        can = [port for port in ports if port not in closing and can_connect(source, destination, port)]
        self.expect(not can, "connect", source, destination, "can from", can, report.message)


seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(1 << 32)
seconds = float(os.environ.get("IC_LISTENER_TEST_SECONDS", 5))
release = [int(part) for part in os.uname().release.split(".")[:2] if part.isdigit()]
shows_bound = release >= [6, 8]
libc = c.CDLL(None, use_errno=True)
if not os.path.exists(LIBRARY):
    skip(LIBRARY + ": make")
if libc.unshare(CLONE_NEWNET) != 0:
    skip("a network namespace: run as root with CAP_SYS_ADMIN")
if os.system("ip link set lo up 2>/dev/null") != 0:
    skip("ip is missing: apt-get install iproute2")
with open("/proc/sys/net/ipv4/ip_local_port_range", "w", encoding="ascii") as setting:
    setting.write("1024 60999")
print("# seed", seed, flush=True)
test = Test(c.CDLL(LIBRARY))
host = Host(random.Random(seed))
end = time.monotonic() + seconds
start = 2000
while time.monotonic() < end and test.wrong < 10:
    window = range(start, start + PORTS)
    start = start + PORTS if start < 60000 else 2000
    host.new_round(window)
    for where in (None, "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "127.0.0.5", "::"):
        test.open_tcp(where, window, host.connected_by_v6)
    if release >= [6, 3]:
        for where in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"):
            test.bind_and_listen(where, window)
        for pair in ((None, "127.0.0.1"), (None, "::1"), (None, "::ffff:127.0.0.1"), ("127.0.0.5", "127.0.0.1")):
            test.connect(*pair, window, host.closing)
for name, (yes, no) in test.calls.items():
    print(f"# {name}: {yes} had, {no} not")
print("1..1\n" + ("ok" if test.wrong == 0 and len(test.calls) > 0 else "not ok") + " 1 - oracle")
sys.exit(test.wrong != 0)
