"""The ends of a session, where bytes of the network come from and go to: memory, or
a socket.
"""

import weakref

from netwasm_python import sockets
from netwasm_python.tls_constants import SSL_ERROR_SSL, SSL_ERROR_SYSCALL
from netwasm_python.tls_errors import SSLError, no_data, no_room, ssl_error

# As much as one call takes or gives; a socket's buffer is about as large.
PIECE = 256 * 1024


class MemoryBIO:
    """ssl.MemoryBIO"""

    __slots__ = ("_pieces", "_size", "_ended", "__weakref__")

    def __init__(self):
        self._pieces = []
        self._size = 0
        self._ended = False

    @property
    def pending(self):
        """The number of bytes pending in the memory BIO."""
        return self._size

    @property
    def eof(self):
        """True if the memory BIO is at EOF."""
        return self._ended and not self._size

    def read(self, size=-1, /):
        if size < 0 or size >= self._size:
            pieces = self._pieces
            if len(pieces) == 1:
                data = pieces[0]
            else:
                data = b"".join(pieces)
            pieces.clear()
            self._size = 0
            return data
        whole = b"".join(self._pieces)
        self._pieces[:] = [whole[size:]]
        self._size -= size
        return whole[:size]

    def write(self, b, /):
        if self._ended:
            raise ssl_error(SSLError, SSL_ERROR_SSL, "cannot write() after write_eof()")
        if type(b) is bytes:
            data = b
        elif type(b) is memoryview and b.contiguous:
            data = b.tobytes()
        else:
            data = bytes(sockets._view(b))
        if data:
            self._pieces.append(data)
            self._size += len(data)
        return len(data)

    def write_eof(self):
        self._ended = True


class MemoryEnds:
    """The two ends of a session that are memory: they never wait."""

    def __init__(self, incoming, outgoing):
        self._incoming, self._outgoing = incoming, outgoing

    def receive(self):
        """Bytes, or nothing at the end. Raises what says that it has none."""
        if self._incoming._size:
            # The host keeps no more than 1 MiB that is not read yet.
            return self._incoming.read(PIECE)
        if self._incoming._ended:
            return b""
        raise no_data()

    def send(self, data):
        if data:
            self._outgoing.write(data)

    def flush(self):
        pass


class SocketEnds:
    """A socket as both ends of a session."""

    def __init__(self, sock):
        self._socket = weakref.ref(sock)
        # Encrypted bytes that found no room.
        self._left = b""

    def _alive(self):
        sock = self._socket()
        if sock is None or sock.fileno() < 0:
            raise ssl_error(SSLError, SSL_ERROR_SYSCALL, "Underlying socket has been closed.")
        return sock

    def receive(self):
        try:
            return sockets.socket.recv(self._alive(), PIECE)
        except BlockingIOError:
            raise no_data() from None
        except TimeoutError:
            raise TimeoutError("The read operation timed out") from None
        except ConnectionResetError:
            return b""

    def send(self, data):
        if data:
            self._left += data
            self.flush()

    def flush(self):
        while self._left:
            try:
                sent = sockets.socket.send(self._alive(), self._left)
            except BlockingIOError:
                raise no_room() from None
            except TimeoutError:
                raise TimeoutError("The write operation timed out") from None
            self._left = self._left[sent:]
