"""Frames of one side, right and wrong, and a peer that looks closely at what it gets. The
side is a client's, unless `serve` says otherwise."""

import dataclasses
import os
import zlib

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TAIL = b"\x00\x00\xff\xff"
SIDE = "client"


def serve():
    """Makes the frames and the peers from now on those of servers."""
    global SIDE
    SIDE = "server"


def masks():
    """True if the frames are masked, as those of clients are."""
    return SIDE == "client"


def masked(payload, key):
    size = len(payload)
    keys = key * (size // 4 + 1)
    both = int.from_bytes(payload, "big") ^ int.from_bytes(keys[:size], "big")
    return both.to_bytes(size, "big")


def frame(opcode, payload=b"", fin=True, rsv=0, right_mask=True, size=None, form=None):
    """Returns a frame, which has a mask where it must not if `right_mask` is false, and
    none where it must. `size` is told in place of the payload's own; `form` is the length
    that stands for the form of it."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload) if size is None else size
    form = size if form is None else form
    mask = right_mask == masks()
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
    """The other side breaks a rule."""


PARAMETERS = ["server_no_context_takeover", "client_no_context_takeover",
              "server_max_window_bits", "client_max_window_bits"]


@dataclasses.dataclass
class Deflate:
    """The agreement on compression: RFC 7692. The names are of the fields."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    def __post_init__(self):
        self.packing = self.unpacking = None

    @classmethod
    def parse(cls, field):
        """Returns what the field of a server's answer says."""
        name, *parts = [part.strip() for part in field.split(";")]
        if name != "permessage-deflate":
            raise Broken(f"an extension that was not offered: {field}")
        values = {}
        for part in parts:
            key, _, value = part.partition("=")
            if key in values or key not in PARAMETERS:
                raise Broken(f"a wrong parameter: {field}")
            if key.endswith("bits") != bool(value):
                raise Broken(f"a wrong value: {field}")
            values[key] = int(value) if value else True
        return cls(**values)

    def of(self, side):
        """Returns a side's parameters: True if it keeps nothing, and its window."""
        return (getattr(self, f"{side}_no_context_takeover"),
                getattr(self, f"{side}_max_window_bits"))

    def pack(self, data):
        fresh, bits = self.of(SIDE)
        if self.packing is None or fresh:
            # zlib knows no window of 256 bytes: RFC 7692, section 7.1.2.2.
            bits = max(bits, 9)
            self.packing = zlib.compressobj(6, zlib.DEFLATED, -bits)
        packed = self.packing.compress(data) + self.packing.flush(zlib.Z_SYNC_FLUSH)
        return packed.removesuffix(TAIL) or b"\x00"

    def unpack(self, data):
        fresh, bits = self.of("server" if masks() else "client")
        if self.unpacking is None or fresh:
            self.unpacking = zlib.decompressobj(-bits)
        return self.unpacking.decompress(data + TAIL)


class Peer:
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
        is_masked, size = bool(size & 0x80), size & 0x7f
        if is_masked == masks():
            raise Broken("a mask of a server" if is_masked else "no mask of a client")
        if size == 126:
            size = int.from_bytes(self.take(2), "big")
            if size < 126:
                raise Broken(f"a long form of {size}")
        elif size == 127:
            size = int.from_bytes(self.take(8), "big")
            if not 1 << 16 <= size < 1 << 63:
                raise Broken(f"a long form of {size}")
        if not is_masked:
            return first, self.take(size)
        key = self.take(4)
        return first, masked(self.take(size), key)

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
