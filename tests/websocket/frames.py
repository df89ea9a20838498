"""Frames of a client, right and wrong, and a client that looks closely at what it gets."""

import dataclasses
import os
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TAIL = b"\x00\x00\xff\xff"


def masked(payload, key):
    size = len(payload)
    keys = key * (size // 4 + 1)
    both = int.from_bytes(payload, "big") ^ int.from_bytes(keys[:size], "big")
    return both.to_bytes(size, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, mask=True, size=None, form=None):
    """Returns a frame of a client. `size` is told in place of the payload's own; `form`
    is the length that stands for the form of it."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if size is None else size
    form = size if form is None else form
    bit = 0x80 if mask else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if form < 126:
        head += bytes([bit | size])
    elif form < 1 << 16:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def fragments(opcode, pieces, rsv=0):
    """Returns a message in these pieces."""
    last = len(pieces) - 1
    return [frame(opcode if place == 0 else CONTINUATION, piece, fin=place == last,
                  rsv=rsv if place == 0 else 0)
            for place, piece in enumerate(pieces)]


def cut(data, size):
    """Returns the data in pieces of this size."""
    return [data[place:place + size] for place in range(0, len(data), size)] or [data]


def close(code=None, reason=b""):
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


class Broken(Exception):
    """The server breaks a rule."""


@dataclasses.dataclass
class Deflate:
    """What was agreed on compression: RFC 7692. The names are of the fields."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def __post_init__(self):
        self.packing = self.unpacking = None

    @classmethod
    def parse(cls, field):
        """Returns what the field of the server's answer says."""
        name, *parts = [part.strip() for part in field.split(";")]
        if name != "permessage-deflate":
            raise Broken(f"an extension that was not offered: {field}")
        values = {}
        for part in parts:
            key, _, value = part.partition("=")
            if key in values or key not in cls.__dataclass_fields__:
                raise Broken(f"a wrong parameter: {field}")
            if key.endswith("bits") != bool(value):
                raise Broken(f"a wrong value: {field}")
            values[key] = int(value) if value else True
        return cls(**values)

    def pack(self, data):
        if self.packing is None or self.client_no_context_takeover:
            # zlib knows no window of 256 bytes: RFC 7692, section 7.1.2.2.
            bits = max(self.client_max_window_bits, 9)
            self.packing = zlib.compressobj(6, zlib.DEFLATED, -bits)
        packed = self.packing.compress(data) + self.packing.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(TAIL) or b"\x00"

    def unpack(self, data):
        if self.unpacking is None or self.server_no_context_takeover:
            self.unpacking = zlib.decompressobj(-self.server_max_window_bits)
        return self.unpacking.decompress(data + TAIL)


class Client:
    """Sends bytes over a wire, and returns what comes: `("text", str)`,
    `("binary", bytes)`, `("ping", bytes)`, `("pong", bytes)`, and
    `("close", code, reason)`. Raises Broken where RFC 6455 or 7692 is broken."""

    def __init__(self, wire):
        self.wire, self.received = wire, bytearray()
        field = wire.fields.get("sec-websocket-extensions")
        self.deflate = Deflate.parse(field) if field else None

    def send(self, data):
        self.wire.send(data)

    def message(self, opcode, payload, size=None):
        """Sends a message, compressed if that was agreed on, in frames of `size`."""
        rsv = 0
        if self.deflate:
            payload, rsv = self.deflate.pack(payload), 4
        self.send(b"".join(fragments(opcode, cut(payload, size or len(payload) or 1), rsv)))

    def take(self, size):
        while len(self.received) < size:
            piece = self.wire.receive()
            if not piece:
                raise EOFError(bytes(self.received))
            self.received += piece
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken

    def frame(self):
        """Returns the next frame: its first byte and its payload."""
        first, size = self.take(2)
        if size & 0x80:
            raise Broken("a mask of the server")
        if size == 126:
            size = int.from_bytes(self.take(2), "big")
            if size < 126:
                raise Broken(f"a long form of {size}")
        elif size == 127:
            size = int.from_bytes(self.take(8), "big")
            if not 1 << 16 <= size < 1 << 63:
                raise Broken(f"a long form of {size}")
        return first, self.take(size)

    def next(self):
        """Returns what comes next. Raises EOFError at the end."""
        opcode, parts, packed = None, [], False
        while True:
            first, payload = self.frame()
            fin, rsv, kind = first >> 7, first >> 4 & 7, first & 15
            if kind >= 8:
                if not fin or rsv or len(payload) > 125:
                    raise Broken(f"a control frame {first:#x} of {len(payload)} bytes")
                if opcode is not None:
                    raise Broken("a control frame within a message")
                return control(kind, payload)
            if rsv and not (rsv == 4 and self.deflate and opcode is None):
                raise Broken(f"reserved bits {rsv}")
            if (kind == CONTINUATION) == (opcode is None) or kind > BINARY:
                raise Broken(f"the frame {first:#x} in this place")
            if opcode is None:
                opcode, packed = kind, rsv == 4
            parts.append(payload)
            if not fin:
                continue
            data = b"".join(parts)
            if packed:
                data = self.deflate.unpack(data)
            if opcode == BINARY:
                return "binary", data
            return "text", data.decode()

    def ends(self):
        """Waits for the end. Raises Broken if anything comes before it."""
        try:
            first = self.take(1)
        except EOFError:
            return self.wire.is_clean()
        except (ConnectionError, OSError):
            return False
        raise Broken(f"{first!r} after the close frame")


def control(kind, payload):
    if kind == PING:
        return "ping", payload
    if kind == PONG:
        return "pong", payload
    if kind != CLOSE:
        raise Broken(f"the opcode {kind}")
    if not payload:
        return "close", None, ""
    if len(payload) == 1:
        raise Broken("a close frame of one byte")
    return "close", int.from_bytes(payload[:2], "big"), payload[2:].decode()
