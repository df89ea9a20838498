"""Methods that asyncio's own event loop lacks here: it cannot know that there are no threads to look
names up in, and no processes. The rest of the loop is stock.
"""

import asyncio.base_events
import asyncio.unix_events
import concurrent.futures
import concurrent.futures.thread
import errno
import os
import socket
import subprocess
import threading
import _thread

from netwasm_python import addresses, host, inline, sending_files, signals, transfers

_NO_THREADS = (
    "a component has no threads: start a task instead, or an executor, which runs a "
    "function at once"
)
_INLINE = (
    "a component has no threads: an executor runs its functions at once, and the event "
    "loop waits for each"
)
NO_PROCESSES = (
    "a component starts no processes: start the command outside, and talk to it by a socket"
)


# Names


async def _look_up(loop, name):
    """Looks a name up without blocking the loop."""
    descriptor = addresses.begin(name)
    open_still = True
    try:
        while True:
            ready = loop.create_future()
            loop.add_reader(descriptor, _wake, ready)
            try:
                await ready
            finally:
                loop.remove_reader(descriptor)
            try:
                found = addresses.take(descriptor)
            except OSError:
                open_still = False
                raise
            if found is not None:
                open_still = False
                return found
    finally:
        if open_still:
            host.call(host.CLOSE, [descriptor])


def _wake(future):
    if not future.done():
        future.set_result(None)


async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
    query = addresses.Query(host, port, family, type, proto, flags)
    found = query.numeric
    if query.name is not None:
        found = await _look_up(self, query.name)
    return [
        (socket._intenum_converter(entry[0], socket.AddressFamily),
         socket._intenum_converter(entry[1], socket.SocketKind), *entry[2:])
        for entry in query.answer(found)
    ]


async def getnameinfo(self, sockaddr, flags=0):
    return socket.getnameinfo(sockaddr, flags)


# Threads

def warn_at_once():
    """Says once that a function runs at once which a thread would run natively. Called
    two calls below the program's own line."""
    inline.warn(_INLINE, 4)


def submit(self, fn, /, *args, **kwargs):
    """ThreadPoolExecutor.submit: runs the function at once."""
    if self._broken:
        raise self.BROKEN(self._broken)
    if self._shutdown:
        raise RuntimeError("cannot schedule new futures after shutdown")
    warn_at_once()
    future = concurrent.futures.Future()
    future.set_running_or_notify_cancel()
    try:
        worker, context = inline.worker_of(self)
        task = self._resolve_work_item_task(fn, args, kwargs)
        result = inline.run(context.copy(), worker.run, task)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
    return future


async def shutdown_default_executor(self, timeout=None):
    self._executor_shutdown_called = True
    if self._default_executor is not None:
        self._default_executor.shutdown(wait=False)


def _start_no_thread(*_, **__):
    raise RuntimeError(_NO_THREADS)


# Processes


def start_no_process(self, *_, **__):
    """subprocess.Popen(), and all else that starts a process: refuses."""
    raise PermissionError(errno.EPERM, NO_PROCESSES)


# Files


async def _sock_sendfile_native(self, sock, file, offset, count):
    named = sending_files.named(file)
    with named as path:
        ours = getattr(asyncio.unix_events.os, "sendfile", None) is sending_files.sendfile
        if path is None or not ours:
            return await _stock_sendfile_native(self, sock, file, offset, count)
        transfer = transfers.Transfer(self, sock, path, offset, count)
        try:
            return await transfer.run(named.size)
        finally:
            if transfer.sent:
                os.lseek(file.fileno(), offset + transfer.sent, os.SEEK_SET)


_stock_sendfile_native = asyncio.unix_events._UnixSelectorEventLoop._sock_sendfile_native


async def _sendfile_fallback(self, transp, file, offset, count):
    # The stock one reads into a single buffer again and again. A transport
    # keeps views of what it could not send yet, so what it sends later would
    # not be what was read.
    if hasattr(file, "seek"):
        file.seek(offset)
    size = 65536
    sent = 0
    protocol = asyncio.base_events._SendfileFallbackProtocol(transp)
    try:
        while not count or sent < count:
            data = file.read(min(count - sent, size) if count else size)
            if not data:
                break
            transp.write(data)
            await protocol.drain()
            sent += len(data)
        return sent
    finally:
        if sent > 0 and hasattr(file, "seek"):
            file.seek(offset + sent)
        await protocol.restore()


def install():
    base = asyncio.base_events.BaseEventLoop
    base.getaddrinfo, base.getnameinfo = getaddrinfo, getnameinfo
    base.shutdown_default_executor = shutdown_default_executor
    base._sendfile_fallback = _sendfile_fallback
    asyncio.unix_events._UnixSelectorEventLoop._sock_sendfile_native = _sock_sendfile_native
    concurrent.futures.thread.ThreadPoolExecutor.submit = submit
    for name in ("start_new_thread", "start_new", "start_joinable_thread"):
        setattr(_thread, name, _start_no_thread)
    threading._start_joinable_thread = _start_no_thread
    _thread.interrupt_main = signals.interrupt_main
    subprocess.Popen.__init__ = start_no_process
