"""The cases of volume, numbered as Autobahn's test suite numbers them: large messages,
many messages, and compression with all parameters; and what it has none of: limits, and
compressed data that is wrong. Each is a function of a client."""

import json
import random
import zlib

from frames import BINARY, CONTINUATION, PING, TEXT, TAIL, close, cut, fragments, frame

MIB = 1 << 20
# The sizes of messages of 12 and 13, and those of their frames.
SIZES = [(16, None), (64, None), (256, None), (1024, None), (4096, None), (8192, None),
         (16384, None), (32768, None), (65536, None), (131072, None), (8192, 256),
         (16384, 256), (32768, 256), (65536, 256), (131072, 256), (131072, 1024),
         (131072, 4096), (131072, 32768)]
KINDS = {TEXT: "text", BINARY: "binary"}


class Failed(Exception):
    """The server does something else than it should."""


def expect(found, wanted):
    if found != wanted:
        found, wanted = [str(it)[:200] for it in (found, wanted)]
        raise Failed(f"{found} in place of {wanted}")


def payload(opcode, size):
    return b"*" * size if opcode == TEXT else random.randbytes(size)


def comes_back(client, opcode, data):
    """Receives a message that was sent."""
    kind, *received = client.next()
    expect(kind, KINDS[opcode])
    if received[0] != (data.decode() if opcode == TEXT else data):
        raise Failed(f"another message of {len(received[0])} for {len(data)} bytes")


def echo(opcode, size, frames=None, pieces=None):
    """A message, in frames of this size, sent in pieces of that size."""
    def run(client):
        data = payload(opcode, size)
        parts = fragments(opcode, cut(data, frames) if frames else [data])
        for piece in cut(b"".join(parts), pieces or 4 * MIB):
            client.send(piece)
        comes_back(client, opcode, data)
    return run


def many(opcode, size, count):
    """Messages to and fro, one after the other."""
    def run(client):
        for _ in range(count):
            data = payload(opcode, size)
            client.send(frame(opcode, data))
            comes_back(client, opcode, data)
    return run


def large(count):
    """9 and 10: up to 16 MiB, as one frame, as fragments, and in small pieces."""
    for group, opcode in [(1, TEXT), (2, BINARY)]:
        sizes = [1 << 16, 1 << 18, MIB, 4 * MIB, 8 * MIB, 16 * MIB]
        for number, size in enumerate(sizes, 1):
            yield f"9.{group}.{number}", echo(opcode, size)
    for group, opcode in [(3, TEXT), (4, BINARY)]:
        for number, size in enumerate([64 << 2 * power for power in range(9)], 1):
            yield f"9.{group}.{number}", echo(opcode, 4 * MIB, frames=size)
    for group, opcode in [(5, TEXT), (6, BINARY)]:
        for number, size in enumerate([64, 128, 256, 512, 1024, 2048], 1):
            yield f"9.{group}.{number}", echo(opcode, MIB, pieces=size)
    for group, opcode in [(7, TEXT), (8, BINARY)]:
        for number, size in enumerate([0, 16, 64, 256, 1024, 4096], 1):
            yield f"9.{group}.{number}", many(opcode, size, count)
    yield "10.1.1", echo(TEXT, 65536, frames=1300)


def words(size):
    """Text as people write it, more or less."""
    chosen = random.Random(size)
    some = "der die und in von zu das mit sich des auf für ist im dem nicht ein".split()
    text = " ".join(chosen.choice(some) for _ in range(size // 2))
    return text.encode()[:size].decode(errors="ignore").encode()


def records(size):
    chosen = random.Random(size)
    made = [{"id": number, "name": f"item {number}", "price": chosen.random()}
            for number in range(size // 40 + 1)]
    return json.dumps(made).encode()[:size]


CONTENTS = [(TEXT, records), (BINARY, random.randbytes), (TEXT, words),
            (BINARY, lambda size: bytes(size)), (TEXT, lambda size: b"ab" * (size // 2))]

# Offers of a client for 13, and parameters that the answer must have.
OFFERS = [
    ("permessage-deflate", {}),
    ("permessage-deflate; server_no_context_takeover", {"server_no_context_takeover": True}),
    ("permessage-deflate; server_max_window_bits=9", {"server_max_window_bits": 9}),
    ("permessage-deflate; server_max_window_bits=15", {"server_max_window_bits": 15}),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
     {"server_no_context_takeover": True, "server_max_window_bits": 9}),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
     {"server_no_context_takeover": True, "server_max_window_bits": 15}),
    ("permessage-deflate; server_no_context_takeover; server_max_window_bits=9, "
     "permessage-deflate; server_no_context_takeover, permessage-deflate",
     {"server_no_context_takeover": True, "server_max_window_bits": 9}),
    # Those that Autobahn has none of.
    ("permessage-deflate; client_no_context_takeover; client_max_window_bits",
     {"client_no_context_takeover": True}),
    ("permessage-deflate; client_max_window_bits=9; server_max_window_bits=\"12\"",
     {"server_max_window_bits": 12}),
    ("x-webkit-deflate-frame, permessage-deflate; client_max_window_bits", {}),
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", {}),
]


def packed(opcode, content, size, frames, count):
    """Compressed messages to and fro."""
    def run(client):
        for turn in range(count):
            data = content(size + turn % 3)
            client.message(opcode, data, frames)
            comes_back(client, opcode, data)
    return run


def compressed(count, offers):
    """12 and 13: the offer, or the answer of a server, what must be agreed on, and what is
    said."""
    for group, (opcode, content) in enumerate(CONTENTS, 1):
        for number, (size, frames) in enumerate(SIZES, 1):
            yield (f"12.{group}.{number}", *offers[0],
                   packed(opcode, content, size, frames, count))
    for group, (offer, needed) in enumerate(offers, 1):
        for number, (size, frames) in enumerate(SIZES, 1):
            yield (f"13.{group}.{number}", offer, needed,
                   packed(TEXT, records, size, frames, count))


def fails(client, data, code):
    """Sends something that the server is to end the connection for."""
    try:
        client.send(data)
    except (ConnectionError, EOFError):
        pass
    expect(client.next()[:2], ("close", code))


def stored(data):
    """Returns a block that is not compressed, and is not the last."""
    size = len(data)
    return b"\x00" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data


def last_block(data):
    """Returns compressed data that ends with a last block, as RFC 7692, 7.2.3.4 has it."""
    packing = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packing.compress(data) + packing.flush(zlib.Z_FINISH) + b"\x00"


def wrong_compression():
    """14: what may come compressed, and what may not."""
    def tells(sent, *expected):
        def run(client):
            client.send(b"".join(sent))
            for event in expected:
                expect(client.next(), event)
        return run

    def refuses(sent, code):
        return lambda client: fails(client, b"".join(sent), code)
    hello = ("text", "Hello")
    # RFC 7692, section 7.2.3, has these.
    yield "14.1", tells([frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4)], hello)
    two = cut(bytes.fromhex("f248cdc9c90700"), 3)
    yield "14.2", tells(fragments(TEXT, two, rsv=4), hello)
    yield "14.3", tells([frame(TEXT, stored(b"Hello") + b"\x00", rsv=4)], hello)
    yield "14.4", tells([frame(TEXT, last_block(b"Hello"), rsv=4)], hello)
    yield "14.5", tells([frame(TEXT, b"\x00", rsv=4)], ("text", ""))
    yield "14.6", tells([frame(TEXT, "Hello")], hello)
    first, second = fragments(TEXT, two[:1] + [b"".join(two[1:])], rsv=4)
    yield "14.7", tells([first, frame(PING, b"between"), second], ("pong", b"between"), hello)
    yield "14.8", refuses([frame(TEXT, "Hello", fin=False, rsv=4),
                           frame(CONTINUATION, "x", rsv=4)], 1002)
    yield "14.9", refuses([frame(PING, rsv=4)], 1002)
    yield "14.10", refuses([frame(TEXT, b"\xff" * 20, rsv=4)], 1007)
    invalid = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = invalid.compress(b"caf\xe9") + invalid.flush(zlib.Z_SYNC_FLUSH)
    yield "14.11", refuses([frame(TEXT, data.removesuffix(TAIL), rsv=4)], 1007)
    yield "14.12", tells([frame(BINARY, stored(b"\xe9") + b"\x00", rsv=4)],
                         ("binary", b"\xe9"))
    yield "14.13", refuses([frame(TEXT, "*", rsv=5)], 1002)
    # Half of a stored block.
    yield "14.14", refuses([frame(BINARY, stored(b"Hello")[:-2], rsv=4)], 1007)
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bomb.compress(bytes(64 * MIB)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    yield "14.15", refuses([frame(BINARY, data.removesuffix(TAIL), rsv=4)], 1009)
    empty = stored(b"") * 10_000
    yield "14.16", tells([frame(BINARY, empty + b"\x00", rsv=4)], ("binary", b""))


def limits():
    """15: messages and frames beyond limits of 100 kB and 50 kB. What was sent may not
    keep the close frame from the client."""
    def refuses(*sent):
        return lambda client: fails(client, b"".join(sent), 1009)
    yield "15.1", echo(BINARY, 50_000)
    yield "15.2", refuses(frame(BINARY, bytes(50_001)))
    yield "15.3", echo(BINARY, 100_000, frames=50_000)
    yield "15.4", refuses(*fragments(BINARY, cut(bytes(100_001), 50_000)))
    yield "15.5", refuses(*fragments(TEXT, cut(b"*" * 100_001, 1)))
    yield "15.6", refuses(frame(TEXT, size=1 << 62))
    yield "15.7", refuses(frame(BINARY, bytes(8 * MIB)))
    yield "15.8", echo(TEXT, 0, frames=1)

    def empty_frames(client):
        client.send(b"".join(fragments(TEXT, [b""] * 50_000)))
        expect(client.next(), ("text", ""))
    yield "15.9", empty_frames

    def floods(client):
        # The pongs are read only then.
        client.send(frame(PING, b"*" * 125) * 2000)
        for _ in range(2000):
            expect(client.next(), ("pong", b"*" * 125))
    yield "15.10", floods


def finish(client):
    """Closes a connection that is in order."""
    client.send(close(1000))
    expect(client.next(), ("close", 1000, ""))
    if not client.ends():
        raise Failed("the end is not clean")
