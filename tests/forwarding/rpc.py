"""Checks of gRPC through the gateway: all kinds of calls, metadata, deadlines."""

import concurrent.futures
import contextlib
import threading
import time

from proxies import ROOT, Netwasm, free_port, gateway

CHECKS = []
SIZES = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


def check(function):
    CHECKS.append(function)
    return function


class Service:
    """Calls of all four kinds, whose messages are bytes."""

    def __init__(self):
        self.ended, self.remaining = threading.Semaphore(0), []
        self.talks_ended = threading.Semaphore(0)

    def unary(self, request, context):
        context.send_initial_metadata([("x-initial", "1"), ("x-bytes-bin", b"\0\xff")])
        told = dict(context.invocation_metadata())
        context.set_trailing_metadata([("x-final", told.get("x-asked", "")), ("x-final", "2")])
        return request[::-1]

    def fails(self, _, context):
        import grpc
        context.set_trailing_metadata([("x-why", "so")])
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: größer, 100 %")

    def collects(self, requests, _):
        return b"%d" % sum(len(it) for it in requests)

    def sends(self, request, _):
        for number in range(int(request)):
            yield b"%d" % number

    def talks(self, requests, context):
        context.add_callback(self.talks_ended.release)
        for request in requests:
            yield request.upper()

    def half(self, request, context):
        """Some messages, and then an error: the status comes in trailers."""
        import grpc
        yield request
        yield request
        context.abort(grpc.StatusCode.DATA_LOSS, "half")

    def waits(self, _, context):
        self.remaining.append(context.time_remaining())
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(60)
        self.ended.release()
        return b""

    def handler(self):
        import grpc
        one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler("test.Calls", {
            "Unary": one(self.unary), "Fails": one(self.fails), "Waits": one(self.waits),
            "Collects": grpc.stream_unary_rpc_method_handler(self.collects),
            "Sends": many(self.sends), "Half": many(self.half),
            "Talks": grpc.stream_stream_rpc_method_handler(self.talks)})


@contextlib.contextmanager
def serving(secure=False):
    """A server of grpcio. Gives its address, as the gateway takes it, and its service."""
    import grpc
    service = Service()
    pool = concurrent.futures.ThreadPoolExecutor(64)
    server = grpc.server(pool, handlers=[service.handler()], options=SIZES)
    if secure:
        key, chain = ((ROOT / "certs" / it).read_bytes() for it in ("key.pem", "cert.pem"))
        credentials = grpc.ssl_server_credentials([(key, chain)])
        upstream = f"https://localhost:{server.add_secure_port('127.0.0.1:0', credentials)}"
    else:
        upstream = f"h2c://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield upstream, service
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def called(program, *flags):
    """A service behind the gateway. Gives a channel to it and the service."""
    import grpc
    with serving() as (upstream, service):
        with gateway(program, upstream, "--max-body", "64MiB", *flags) as proxy:
            with grpc.insecure_channel(f"127.0.0.1:{proxy.address[1]}", options=SIZES) as channel:
                yield channel, service


def failure(call):
    """The error by which a call fails."""
    import grpc
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("it does not fail")


@check
def kinds_of_calls(program):
    """gRPC: all four kinds of calls, metadata and status"""
    import grpc
    with called(program) as (channel, _):
        unary = channel.unary_unary("/test.Calls/Unary")
        answer, call = unary.with_call(b"abc", metadata=[("x-asked", "this")], timeout=30)
        assert answer == b"cba"
        initial = dict(call.initial_metadata())
        assert (initial["x-initial"], initial["x-bytes-bin"]) == ("1", b"\0\xff"), initial
        final = [value for name, value in call.trailing_metadata() if name == "x-final"]
        assert final == ["this", "2"], final
        large = bytes(range(256)) * 12_000
        assert unary(large, timeout=60) == large[::-1]
        assert unary(b"", timeout=30) == b""

        error = failure(lambda: channel.unary_unary("/test.Calls/Fails")(b"", timeout=30))
        assert error.code() == grpc.StatusCode.NOT_FOUND
        assert error.details() == "no such thing: größer, 100 %", error.details()
        assert ("x-why", "so") in list(error.trailing_metadata())
        error = failure(lambda: channel.unary_unary("/test.Calls/None")(b"", timeout=30))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error

        collects = channel.stream_unary("/test.Calls/Collects")
        assert collects(iter([b"x" * 1000] * 500), timeout=60) == b"500000"
        sends = channel.unary_stream("/test.Calls/Sends")
        assert list(sends(b"1000", timeout=60)) == [b"%d" % number for number in range(1000)]
        half = channel.unary_stream("/test.Calls/Half")(b"one", timeout=30)
        assert (next(half), next(half)) == (b"one", b"one")
        assert failure(lambda: next(half)).code() == grpc.StatusCode.DATA_LOSS


@check
def conversation(program):
    """gRPC: a conversation in which each side waits for the other"""
    with called(program) as (channel, _):
        answered = threading.Semaphore(1)

        def say():
            for number in range(200):
                answered.acquire()
                yield b"hello %d" % number

        count = 0
        for number, answer in enumerate(channel.stream_stream("/test.Calls/Talks")(say(), timeout=60)):
            assert answer == b"HELLO %d" % number, answer
            answered.release()
            count += 1
        assert count == 200, count


@check
def deadlines(program):
    """gRPC: deadlines and cancelled calls end the call at the server, too"""
    import grpc
    with called(program) as (channel, service):
        waits = channel.unary_unary("/test.Calls/Waits")
        error = failure(lambda: waits(b"", timeout=1))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert service.ended.acquire(timeout=10), "the server's call goes on"
        assert 0 < service.remaining[0] <= 1, service.remaining
        call = waits.future(b"", timeout=60)
        deadline = time.monotonic() + 30
        while len(service.remaining) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        call.cancel()
        assert service.ended.acquire(timeout=10), "the server's call goes on"


@check
def many_calls(program):
    """gRPC: 2,000 calls, 50 at once, on one connection of the client"""
    with called(program) as (channel, _):
        unary = channel.unary_unary("/test.Calls/Unary")

        def call(number):
            body = b"%d" % number * 100
            assert unary(body, timeout=60) == body[::-1]

        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            list(pool.map(call, range(2000)))


@check
def no_server(program):
    """gRPC: without a server, calls are UNAVAILABLE"""
    import grpc
    with gateway(program, f"h2c://127.0.0.1:{free_port()}") as proxy:
        with grpc.insecure_channel(f"127.0.0.1:{proxy.address[1]}") as channel:
            unary = channel.unary_unary("/test.Calls/Unary")
            error = failure(lambda: unary(b"", timeout=30))
            assert error.code() == grpc.StatusCode.UNAVAILABLE, error


@check
def a_handler(program):
    """gRPC: a handler of wasi:http 0.3 answers all four kinds of calls"""
    import grpc
    with Netwasm(program, "service-probe", "--max-body", "64MiB") as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.address[1]}", options=SIZES) as channel:
            unary = channel.unary_unary("/test.Calls/Unary")
            answer, call = unary.with_call(b"abc", timeout=30)
            assert answer == b"cba"
            assert ("x-final", "2") in list(call.trailing_metadata())
            large = bytes(range(256)) * 12_000
            assert unary(large, timeout=60) == large[::-1]
            collects = channel.stream_unary("/test.Calls/Collects")
            assert collects(iter([b"x" * 1000] * 500), timeout=60) == b"500000"
            sends = channel.unary_stream("/test.Calls/Sends")
            assert list(sends(b"1000", timeout=60)) == [b"%d" % number for number in range(1000)]
            talks = channel.stream_stream("/test.Calls/Talks")
            words = iter([b"one", b"two"])
            assert list(talks(words, timeout=30)) == [b"ONE", b"TWO"]
            error = failure(lambda: channel.unary_unary("/test.Calls/Fails")(b"", timeout=30))
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            error = failure(lambda: channel.unary_unary("/test.Calls/None")(b"", timeout=30))
            assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
            # Its head is all of the response.
            error = failure(lambda: channel.unary_unary("/test.Calls/Denied")(b"", timeout=30))
            assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
            assert error.details() == "not you", error
            waits = channel.unary_unary("/test.Calls/Waits")
            error = failure(lambda: waits(b"", timeout=1))
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            call = waits.future(b"", timeout=60)
            assert unary(b"beside", timeout=30) == b"ediseb"
            call.cancel()
            assert unary(b"after", timeout=30) == b"retfa"
