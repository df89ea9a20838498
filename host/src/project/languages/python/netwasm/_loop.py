"""The event loop: asyncio's, run by the host's events."""

import asyncio
import heapq
import signal
import socket
from asyncio import events
from collections.abc import Callable
from itertools import count
from typing import Any

from componentize_py_types import Err
from wit_world.imports import resolver, timers

from . import _addresses
from ._errors import exception

# Time in nanoseconds after which callbacks let other events go first.
TURN = 5_000_000


class Loop(asyncio.BaseEventLoop):
    """The loop of an instance. Between two events of the host it runs all that
    is ready, and asks the host to be woken for what is due later."""

    def __init__(self) -> None:
        super().__init__()
        # The time at which the host wakes this instance.
        self._alarm: int | None = None
        self._tokens = count(1)
        self._lookups: dict[int, asyncio.Future] = {}
        self._signals: dict[int, tuple[Callable[..., Any], tuple]] = {}
        self.deadline: float | None = None

    # The loop itself.

    def time(self) -> float:
        return timers.now() * 1e-9

    def is_running(self) -> bool:
        return True

    def settle(self) -> None:
        """Runs what is ready. Every event of the host ends with this."""
        ready, scheduled = self._ready, self._scheduled
        if not ready and not scheduled:
            return
        end = timers.now() + TURN
        while True:
            while scheduled and scheduled[0]._cancelled:
                handle = heapq.heappop(scheduled)
                handle._scheduled = False
                self._timer_cancelled_count -= 1
            if scheduled:
                now = self.time() + self._clock_resolution
                while scheduled and scheduled[0]._when < now:
                    handle = heapq.heappop(scheduled)
                    handle._scheduled = False
                    ready.append(handle)
            if not ready:
                break
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
            if ready and timers.now() > end:
                break
        when = None
        if ready:
            when = 0
        elif scheduled:
            when = max(int(scheduled[0]._when * 1e9), 0)
        # An alarm that comes too early costs less than one that is moved.
        if when is not None and (self._alarm is None or when < self._alarm):
            self._alarm = when
            timers.wake_at(when)

    def woken(self) -> None:
        self._alarm = None
        self.settle()

    def _write_to_self(self) -> None:
        """Does nothing: there is no thread that could wait for this loop."""

    def failed(self, what: str, error: BaseException) -> None:
        """Logs what a handler raised."""
        self.call_exception_handler({"message": what, "exception": error})

    def token(self) -> int:
        return next(self._tokens)

    def run_forever(self) -> None:
        raise RuntimeError("the host runs the loop: register a handler, and return")

    run_until_complete = run_forever

    # Names.

    async def getaddrinfo(self, host, port, *, family=0, type=0, proto=0, flags=0):
        """Resolves a name (`--allow-resolve`, `--allow-connect`)."""
        kind = type or socket.SOCK_STREAM
        # Each of several answers is for the family that was asked for.
        wanted = (family,) if family else (socket.AF_INET, socket.AF_INET6)
        ips = await self._resolve(host or "localhost")
        infos = (_addresses.info(ip, int(port or 0), kind, proto) for ip in ips)
        found = [info for info in infos if info[0] in wanted]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"{host} has no address of this family")
        return found

    async def getnameinfo(self, sockaddr, flags=0):
        return sockaddr[0], str(sockaddr[1])

    async def _resolve(self, name: str) -> list:
        token, future = self.token(), self.create_future()
        try:
            resolver.resolve(token, name)
        except Err as error:
            raise exception(error.value) from None
        self._lookups[token] = future
        try:
            return await future
        finally:
            if self._lookups.pop(token, None) is not None:
                resolver.cancel(token)

    def resolved(self, token: int, answer) -> None:
        future = self._lookups.pop(token, None)
        settle_future(future, answer)
        self.settle()

    # Connections and datagrams, in other modules.

    async def create_connection(
        self, protocol_factory, host=None, port=None, *, ssl=None, local_addr=None,
        server_hostname=None, timeout=None, **ignored,
    ):
        """Opens a connection (`--allow-connect`). `ssl` is True or a `TLS`. A host
        `@NAME` is a server of the group that `--upstream` names."""
        from ._streams import connect

        return await connect(
            protocol_factory, (host, port), ssl, server_hostname, timeout, local_addr
        )

    async def create_unix_connection(
        self, protocol_factory, path=None, *, ssl=None, server_hostname=None, timeout=None,
        **ignored,
    ):
        from ._streams import connect

        return await connect(protocol_factory, path, ssl, server_hostname, timeout, None)

    async def start_tls(
        self, transport, protocol, sslcontext=True, *, server_side=False, server_hostname=None,
        received=b"", **ignored,
    ):
        """Continues in TLS. `received` is what came after the last plain byte."""
        transport.set_protocol(protocol)
        await transport.start_tls(sslcontext, server_side, server_hostname, received)
        return transport

    async def sendfile(self, transport, file, offset=0, count=None, *, fallback=True):
        """Sends a file, or its path, by sendfile(2)."""
        sent = transport.send_file(file, offset, count)
        await transport.drain()
        return sent

    # Signals: of those, a handler hears of the host's shutdown.

    def add_signal_handler(self, sig, callback, *args):
        if sig not in (signal.SIGTERM, signal.SIGINT):
            raise ValueError("a handler hears of SIGTERM and SIGINT only")
        self._signals[sig] = (callback, args)

    def remove_signal_handler(self, sig):
        return self._signals.pop(sig, None) is not None

    def shutting_down(self, deadline: int | None) -> None:
        self.deadline = None if deadline is None else deadline * 1e-9
        called: list[tuple] = []
        for it in self._signals.values():
            if it not in called:
                called.append(it)
                self.call_soon(it[0], *it[1])
        self.settle()

    def run_in_executor(self, executor, func, *args):
        raise NotImplementedError("a component has no threads")


def settle_future(future: asyncio.Future | None, outcome) -> None:
    """Gives a future the outcome that the host delivered."""
    if future is None or future.done():
        return
    if isinstance(outcome, Err):
        future.set_exception(exception(outcome.value))
    else:
        future.set_result(outcome.value)


loop = Loop()
events._set_running_loop(loop)
