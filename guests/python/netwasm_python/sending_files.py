"""os.sendfile(), for what asyncio and socket.py build on it.

The host sends a file by its path, and knows nothing of wasi-libc's numbers. So
those who call with a file object tell its path first; a file that is not found
by its path any more, or was opened otherwise, is read and sent as any data.
"""

import errno
import os

from netwasm_python import host, waiting

# The paths of the files that are being sent, by wasi-libc's number.
_paths = {}


def sendfile(out_fd, in_fd, offset, count):
    path = _paths.get(in_fd)
    if path is None:
        raise OSError(errno.EOPNOTSUPP, "only a file that was opened by a path can be sent")
    if offset is None:
        offset = os.lseek(in_fd, 0, os.SEEK_CUR)
    return waiting.checked(host.call(host.SEND_FILE, [out_fd, path, offset, count]))


class named:
    """Tells sendfile() the path of a file for as long as it is sent."""

    def __init__(self, file):
        self._number = None
        try:
            number, path = file.fileno(), os.path.abspath(os.fsdecode(file.name))
            status = os.fstat(number)
            # The name may be another file's by now.
            if os.path.samestat(status, os.stat(path)):
                self._number, self._path, self.size = number, path, status.st_size
        except (AttributeError, TypeError, OSError, ValueError):
            pass

    def __enter__(self):
        if self._number is None:
            return None
        _paths[self._number] = self._path
        return self._path

    def __exit__(self, *_):
        if self._number is not None:
            _paths.pop(self._number, None)


def install():
    os.sendfile = sendfile


def install_in_socket():
    """Lets socket.socket.sendfile() tell the path."""
    import socket

    stock = socket.socket._sendfile_use_sendfile

    def _sendfile_use_sendfile(self, file, offset=0, count=None):
        with named(file):
            return stock(self, file, offset, count)

    socket.socket._sendfile_use_sendfile = _sendfile_use_sendfile
