"""Sends a message and prints what comes back: HOST PORT MESSAGE."""

# The standard library imports this when it first looks a name up. A component
# has what was imported when it was built, and no files to import more from.
import encodings.idna  # noqa: F401
import socket
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        try:
            host, port, message = sys.argv[1:]
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(message.encode())
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as stream:
                    print(stream.read().decode())
        except (OSError, ValueError) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(1)
