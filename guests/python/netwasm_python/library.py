"""Parts of the standard library that want a thread, OpenSSL, a folder or the names of
users, and can do without.
"""

import errno
import getpass
import hashlib
import hmac
import io
import operator
import socketserver
import sys
import tempfile
import types

from netwasm_python import inline, loop

_ONE_AFTER_ANOTHER = (
    "a component has no threads: socketserver serves one connection after another"
)
_NO_FOLDER = "a component has no folder for temporary files: --dir FOLDER::/tmp:rw gives it one"


def _process_request(self, request, client_address):
    """socketserver.ThreadingMixIn.process_request(), at once: `python -m http.server`
    is built on it."""
    inline.warn(_ONE_AFTER_ANOTHER, 3)
    self.process_request_thread(request, client_address)


def pbkdf2_hmac(hash_name, password, salt, iterations, dklen=None):
    """hashlib.pbkdf2_hmac() (RFC 8018, 5.2), which is OpenSSL's natively."""
    if not isinstance(hash_name, str):
        raise TypeError(f"argument 'hash_name' must be str, not {type(hash_name).__name__}")
    size = hashlib.new(hash_name, usedforsecurity=False).digest_size
    if size == 0:
        raise ValueError(f"{hash_name} has digests of any length, and so is not for PBKDF2")
    password, salt = bytes(memoryview(password)), bytes(memoryview(salt))
    iterations = operator.index(iterations)
    if iterations < 1:
        raise ValueError("iteration value must be greater than 0.")
    wanted = size if dklen is None else operator.index(dklen)
    if wanted < 1:
        raise ValueError("key length must be greater than 0.")
    derived = b""
    for block in range(1, -(-wanted // size) + 1):
        last = hmac.digest(password, salt + block.to_bytes(4, "big"), hash_name)
        mixed = int.from_bytes(last, "big")
        for _ in range(iterations - 1):
            last = hmac.digest(password, last, hash_name)
            mixed ^= int.from_bytes(last, "big")
        derived += mixed.to_bytes(size, "big")
    return derived[:wanted]


def _temporary_file(
    mode="w+b", buffering=-1, encoding=None, newline=None,
    suffix=None, prefix=None, dir=None, *, errors=None,
):
    """tempfile.TemporaryFile(): in memory where there is no folder for it. Uploads of
    aiohttp and starlette are such files."""
    if dir is None:
        try:
            tempfile.gettempdir()
        except FileNotFoundError:
            file = io.BufferedRandom(io.BytesIO())
            if "b" in mode:
                return file
            return io.TextIOWrapper(file, encoding=encoding, newline=newline, errors=errors)
    return _stock_temporary_file(
        mode, buffering, encoding, newline, suffix, prefix, dir, errors=errors
    )


def _default_folder(*arguments):
    try:
        return _stock_default_folder(*arguments)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, f"{error.strerror}; {_NO_FOLDER}") from None


def _user():
    """getpass.getuser(), where no variable names the user."""
    try:
        return _stock_user()
    except OSError:
        return "nobody"


def _semaphores():
    """Makes the C module `_multiprocessing`: packages import what is built on it, and
    use it only when they start processes."""
    made = types.ModuleType("_multiprocessing")

    class SemLock:
        SEM_VALUE_MAX = 0x7FFF_FFFF
        __init__ = loop.start_no_process

    made.SemLock, made.sem_unlink, made.flags = SemLock, loop.start_no_process, {}
    return made


_stock_user = getpass.getuser
_stock_temporary_file = tempfile.TemporaryFile
_stock_default_folder = tempfile._get_default_tempdir


def install():
    socketserver.ThreadingMixIn.process_request = _process_request
    if not hasattr(hashlib, "pbkdf2_hmac"):
        hashlib.pbkdf2_hmac = pbkdf2_hmac
        hashlib.__all__ += ("pbkdf2_hmac",)
    tempfile.TemporaryFile = _temporary_file
    tempfile._get_default_tempdir = _default_folder
    getpass.getuser = _user
    sys.modules.setdefault("_multiprocessing", _semaphores())
