"""As many listeners, or connections to port 5000 of full_host, as there are: sockets.py KIND ..."""

import socket
import sys


def many(make):
    made = []
    while len(made) < 100:
        try:
            made.append(make())
        except OSError as error:
            return made, error.strerror
    return made, "no error"


def listener():
    made = socket.socket()
    made.bind(("", 0))
    made.listen()
    return made


def listener_on_port_5000():
    made = socket.socket()
    made.bind(("", 5000))
    return made


def connection():
    return socket.create_connection(("127.0.0.1", 5000))


def connection_from_an_address():
    return socket.create_connection(("127.0.0.1", 5000), source_address=("127.0.0.1", 0))


for name in sys.argv[1:]:
    make = globals()[name]
    made, error = many(make)
    ports = {each.getsockname()[1] for each in made}
    print(f"{len(made)} of {name}, {len(ports)} ports, {error}")
    for each in made:
        each.close()
