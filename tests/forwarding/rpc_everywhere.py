"""Checks of gRPC that are the same for a handler of wasi:http 0.3, for one that calls
grpcio's server, for the gateway before that server, and before the handler."""

import contextlib
import pathlib
import queue
import time

from proxies import ROOT, WAIT, Netwasm, gateway
from rpc import SIZES, failure, serving

CHECKS = []
LARGE = ("--max-body", "64MiB")
TLS = ("--cert", ROOT / "certs/cert.pem", "--key", ROOT / "certs/key.pem")


def check(function):
    CHECKS.append(function)
    return function


@contextlib.contextmanager
def handler(program, *flags, **options):
    with Netwasm(program, "service-probe", *flags, **options) as run:
        yield run


@contextlib.contextmanager
def before_grpcio(program, *flags, **options):
    with serving() as (upstream, _), gateway(program, upstream, *flags, **options) as run:
        yield run


@contextlib.contextmanager
def before_handler(program, *flags, **options):
    with Netwasm(program, "service-probe", *LARGE) as server:
        upstream = f"h2c://127.0.0.1:{server.address[1]}"
        with gateway(program, upstream, *flags, **options) as run:
            yield run


@contextlib.contextmanager
def calling_grpcio(program, *flags, **options):
    """A handler whose own requests are calls; over TLS they are of HTTP/2."""
    with serving(secure=True) as (upstream, _):
        own = ("--allow-connect", upstream.removeprefix("https://"), "--ca", ROOT / "certs/ca.pem")
        with Netwasm(program, "reverse-proxy", *own, *flags, "--", upstream, **options) as run:
            yield run


PLACES = (handler, calling_grpcio, before_grpcio, before_handler)


def everywhere(program, *flags, options=()):
    """A run of each kind, and a channel to it."""
    import grpc
    for place in PLACES:
        with place(program, *flags) as run:
            target = f"127.0.0.1:{run.address[1]}"
            with grpc.insecure_channel(target, options=[*SIZES, *options]) as channel:
                yield run, channel


class Talk:
    """A call of messages both ways, whose client says a word when it is told to."""

    def __init__(self, channel):
        self.said, self.words = 0, queue.SimpleQueue()
        self.call = channel.stream_stream("/test.Calls/Talks")(self._say(), timeout=60)

    def _say(self):
        while (word := self.words.get()) is not None:
            yield word

    def word(self):
        """Says a word, and hears the answer."""
        self.said += 1
        self.words.put(b"word %d" % self.said)
        answer = next(self.call)
        assert answer == b"WORD %d" % self.said, answer

    def end(self):
        self.words.put(None)


def until(condition, run):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline, run.log
        time.sleep(0.01)


def computes(run):
    """Ticks of the processor that a run has taken."""
    text = pathlib.Path(f"/proc/{run.process.pid}/stat").read_text()
    fields = text.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@check
def large_messages(program):
    """gRPC everywhere: messages of 4 and 8 MiB, and 32 MiB in a call"""
    four, eight = b"a" * (4 << 20), bytes(range(256)) * (8 << 12)
    for _, channel in everywhere(program, *LARGE):
        unary = channel.unary_unary("/test.Calls/Unary")
        assert unary(eight, timeout=180) == eight[::-1]
        collects = channel.stream_unary("/test.Calls/Collects")
        assert collects(iter([four] * 8), timeout=180) == b"%d" % (32 << 20)
        talks = channel.stream_stream("/test.Calls/Talks")
        assert list(talks(iter([four] * 4), timeout=180)) == [four.upper()] * 4
        sends = channel.unary_stream("/test.Calls/Sends")
        assert sum(1 for _ in sends(b"20000", timeout=180)) == 20000


@check
def statuses(program):
    """gRPC everywhere: statuses in trailers, and in a head alone"""
    import grpc
    for _, channel in everywhere(program):
        for method, code in ("Fails", "NOT_FOUND"), ("None", "UNIMPLEMENTED"):
            error = failure(lambda: channel.unary_unary(f"/test.Calls/{method}")(b"", timeout=30))
            assert error.code() == grpc.StatusCode[code], error
    for place in handler, before_handler:
        with place(program) as run, grpc.insecure_channel(f"127.0.0.1:{run.address[1]}") as channel:
            error = failure(lambda: channel.unary_unary("/test.Calls/Denied")(b"", timeout=30))
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
            assert error.details() == "not you", error


@check
def cancelled_calls(program):
    """gRPC everywhere: cancelled calls of all kinds cost nothing afterwards"""
    for run, channel in everywhere(program):
        sends = channel.unary_stream("/test.Calls/Sends")(b"3000000", timeout=60)
        assert [next(sends) for _ in range(3)] == [b"0", b"1", b"2"]
        sends.cancel()
        talk = Talk(channel)
        talk.word()
        talk.call.cancel()
        waits = channel.unary_unary("/test.Calls/Waits").future(b"", timeout=60)
        # On the same connection, after the others.
        assert channel.unary_unary("/test.Calls/Unary")(b"abc", timeout=30) == b"cba"
        waits.cancel()
        talk.end()
        deadline, before = time.monotonic() + WAIT, computes(run)
        while True:
            time.sleep(0.5)
            after = computes(run)
            if after - before <= 2:
                break
            assert time.monotonic() < deadline, "a cancelled call goes on"
            before = after


@check
def graceful_ends(program):
    """gRPC everywhere: a call that is under way at SIGTERM is finished"""
    import grpc
    for run, channel in everywhere(program):
        talk = Talk(channel)
        talk.word()
        run.process.terminate()
        until(lambda: any("draining" in line for line in run.log), run)
        talk.word()
        talk.end()
        assert list(talk.call) == []
        assert talk.call.code() == grpc.StatusCode.OK
        assert run.process.wait(WAIT) == 0, run.log


@check
def idle_clients(program):
    """gRPC everywhere: a client that asks every 200 ms whether the server is there"""
    import grpc
    often = [("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 5000),
             ("grpc.http2.max_pings_without_data", 0), ("grpc.keepalive_permit_without_calls", 1)]
    for _, channel in everywhere(program, options=often):
        error = failure(lambda: channel.unary_unary("/test.Calls/Waits")(b"", timeout=4))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
        assert channel.unary_unary("/test.Calls/Unary")(b"abc", timeout=30) == b"cba"


@check
def refused_within_a_call(program):
    """gRPC by the gateway: a call beyond --max-body or --body-timeout ends at both sides"""
    import grpc
    for flags, pieces, code in (
            (("--max-body", "64KiB"), 9, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (("--body-timeout", "1s"), 0, grpc.StatusCode.CANCELLED)):
        with serving() as (upstream, service), gateway(program, upstream, *flags) as run:
            with grpc.insecure_channel(f"127.0.0.1:{run.address[1]}") as channel:
                talk = Talk(channel)
                talk.word()
                for _ in range(pieces):
                    talk.words.put(b"x" * 10_000)
                error = failure(lambda: list(talk.call))
                assert error.code() == code, error
                talk.end()
                assert service.talks_ended.acquire(timeout=WAIT), "the server's call goes on"
                why = "the rest of a request is refused, whose response has begun"
                until(lambda: [it for it in run.log if why in it and flags[0] in it], run)


@check
def over_tls(program):
    """gRPC over TLS, and with messages that gzip has compressed"""
    import grpc
    roots = (ROOT / "certs/ca.pem").read_bytes()
    credentials = grpc.ssl_channel_credentials(root_certificates=roots)
    for place in PLACES:
        with place(program, *LARGE, *TLS, listeners=("--https",)) as run:
            target = f"127.0.0.1:{run.addresses['https'][1]}"
            options = [*SIZES, ("grpc.ssl_target_name_override", "localhost")]
            with grpc.secure_channel(target, credentials, options=options) as channel:
                unary, large = channel.unary_unary("/test.Calls/Unary"), b"ab" * 500_000
                assert unary(large, timeout=60) == large[::-1]
                talk = Talk(channel)
                for _ in range(20):
                    talk.word()
                talk.end()
                assert list(talk.call) == []
                if place in (calling_grpcio, before_grpcio):
                    packed = {"compression": grpc.Compression.Gzip}
                    assert unary(large, timeout=60, **packed) == large[::-1]
