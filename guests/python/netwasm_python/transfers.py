"""loop.sendfile() over the host's sockets: `sending_files.py` for an event loop."""

import asyncio
import errno

from netwasm_python import host, waiting

_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK)


class Transfer:
    """A file on its way to a socket, beside everything else of an event loop. It is
    registered with the loop once, and not for each piece as in asyncio: that costs
    as much as sending 100 KiB."""

    def __init__(self, loop, sock, path, offset, count):
        self._loop, self._socket, self._path = loop, sock, path
        self._next, self._count, self.sent = offset, count, 0
        self._done = loop.create_future()

    async def run(self, size):
        """Sends the file, which has `size` bytes, and returns how many were sent."""
        self._size = size
        self._go_on()
        if not self._done.done():
            self._loop.add_writer(self._socket.fileno(), self._go_on)
        try:
            return await self._done
        finally:
            number = self._socket.fileno()
            if number != -1:
                self._loop.remove_writer(number)

    def _go_on(self):
        """Sends what there is room for."""
        while not self._done.done():
            most = self._count - self.sent if self._count else 1 << 62
            arguments = [self._socket.fileno() & 0xFFFF_FFFF, self._path, self._next, most]
            sent = host.call(host.SEND_FILE, arguments)
            if type(sent) is not int:
                if sent.value[0] not in _AGAIN:
                    self._done.set_exception(self._failed(sent))
                return
            self._next += sent
            self.sent += sent
            if not sent or self.sent == self._count:
                self._done.set_result(self.sent)
            elif self._next < self._size:
                return
            else:
                # It has grown, or this ends it without another turn.
                self._size = 1 << 62

    def _failed(self, failure):
        # As in asyncio: what does not even begin is sent in another way, and a
        # connection that has gone is a ConnectionError.
        if not self.sent:
            return asyncio.SendfileNotAvailableError("os.sendfile call failed")
        if failure.value[0] == errno.ENOTCONN:
            return ConnectionError("socket is not connected", errno.ENOTCONN)
        return waiting.failed(failure)
