"""The cases of the rules, numbered as Autobahn's test suite numbers them: frames, pings,
reserved bits, opcodes, fragments, text, and the close."""

import dataclasses

from frames import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, cut, fragments,
                    frame, masks)

# Parts of what a case sends, besides bytes: waits until so many events have come, or
# until the close.
AWAIT_CLOSE = "await close"


@dataclasses.dataclass
class Await:
    count: int


@dataclasses.dataclass
class Case:
    """Bytes to send, and the events that come before the close frame.

    `ends` is the code of netwasm's close frame. If the other side is to begin the close,
    what it sends has its close frame; `fails` is true if netwasm is to begin it.
    Events of `lax` are as good, but less strict."""

    name: str
    sends: list
    expects: list
    ends: object = 1000
    fails: bool = False
    lax: list = dataclasses.field(default_factory=list)


def good(name, sends, *expects, lax=()):
    """A case that this side closes after it."""
    return Case(name, [*sends, close(1000)], list(expects), lax=[list(it) for it in lax])


def bad(name, sends, *expects, code=1002, lax=()):
    """A case that netwasm is to end."""
    return Case(name, list(sends), list(expects), code, True, [list(it) for it in lax])


def octets(data):
    return cut(data, 1)


def text(payload):
    return frame(TEXT, payload)


def sizes():
    """1: messages of all forms of the length."""
    for group, opcode, kind, fill in [(1, TEXT, "text", "*"), (2, BINARY, "binary", b"\xfe")]:
        for number, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], 1):
            payload = fill * size
            whole = frame(opcode, payload)
            yield good(f"1.{group}.{number}", [whole], (kind, payload))
            if size <= 128:
                yield good(f"1.{group}.{number} by the octet", octets(whole), (kind, payload))
        payload = fill * 65536
        yield good(f"1.{group}.8", cut(frame(opcode, payload), 997), (kind, payload))


def pings():
    """2: pings and pongs."""
    odd = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
    for number, payload in enumerate([b"", b"Hello, world!", odd, b"\xfe" * 125], 1):
        yield good(f"2.{number}", [frame(PING, payload)], ("pong", payload))
    yield bad("2.5", [frame(PING, b"\xfe" * 126)])
    payload = b"\xfe" * 125
    yield good("2.6", octets(frame(PING, payload)), ("pong", payload))
    yield good("2.7", [frame(PONG)])
    yield good("2.8", [frame(PONG, b"unasked")])
    yield good("2.9", [frame(PONG, b"unasked"), frame(PING, b"asked")], ("pong", b"asked"))
    many = [b"payload %d" % number for number in range(10)]
    pongs = [("pong", payload) for payload in many]
    yield good("2.10", [b"".join(frame(PING, it) for it in many)], *pongs)
    yield good("2.11", octets(b"".join(frame(PING, it) for it in many)), *pongs)


def reserved():
    """3: reserved bits, where nothing gives them a meaning."""
    echo = ("text", "*")
    yield bad("3.1", [frame(TEXT, "*", rsv=1)])
    yield bad("3.2", [text("*") + frame(TEXT, "*", rsv=2) + frame(PING)], echo, lax=[()])
    yield bad("3.3", [text("*"), frame(TEXT, "*", rsv=3), frame(PING)], echo, lax=[()])
    yield bad("3.4", octets(text("*") + frame(TEXT, "*", rsv=4) + frame(PING)), echo, lax=[()])
    yield bad("3.5", [frame(BINARY, b"*" * 8, rsv=5)])
    yield bad("3.6", [frame(PING, b"*" * 8, rsv=6)])
    yield bad("3.7", [frame(CLOSE, rsv=7)])


def opcodes():
    """4: opcodes without a meaning."""
    echo = ("text", "*")
    for group, first in [(1, 3), (2, 11)]:
        yield bad(f"4.{group}.1", [frame(first)])
        yield bad(f"4.{group}.2", [frame(first + 1, b"reserved")])
        one, two = frame(first + 2), frame(first + 3, b"reserved")
        yield bad(f"4.{group}.3", [text("*") + one + frame(PING)], echo, lax=[()])
        yield bad(f"4.{group}.4", [text("*"), two, frame(PING)], echo, lax=[()])
        last = text("*") + frame(first + 4, b"reserved") + frame(PING)
        yield bad(f"4.{group}.5", octets(last), echo, lax=[()])


def in_pieces():
    """5: fragments, and control frames between them."""
    for number, opcode in [(1, PING), (2, PONG)]:
        yield bad(f"5.{number}", fragments(opcode, [b"frag", b"ment"]))
    message = fragments(TEXT, ["fragment1", "fragment2"])
    whole = ("text", "fragment1fragment2")
    yield good("5.3", [b"".join(message)], whole)
    yield good("5.4", message, whole)
    yield good("5.5", octets(b"".join(message)), whole)
    between = [message[0], frame(PING, b"ping"), message[1]]
    pong = ("pong", b"ping")
    yield good("5.6", [b"".join(between)], pong, whole)
    yield good("5.7", between, pong, whole)
    yield good("5.8", octets(b"".join(between)), pong, whole)
    for first, fin in [(9, True), (12, False)]:
        lost = [frame(CONTINUATION, "none", fin=fin), text("Hello")]
        yield bad(f"5.{first}", [b"".join(lost)])
        yield bad(f"5.{first + 1}", lost)
        yield bad(f"5.{first + 2}", octets(b"".join(lost)))
    lost = frame(CONTINUATION, "none", fin=False)
    yield bad("5.15", [*message, lost, text("Hello")], whole, lax=[()])
    for number, fin in [(16, False), (17, True)]:
        three = [frame(CONTINUATION, "1", fin=fin), frame(TEXT, "2", fin=False),
                 frame(CONTINUATION, "3")]
        yield bad(f"5.{number}", 2 * three)
    yield bad("5.18", [frame(TEXT, "fragment1", fin=False), text("fragment2")])
    five = fragments(TEXT, ["one", "two", "three", "four", "five"])
    many = [*five[:2], frame(PING, b"first"), Await(1), *five[2:4], frame(PING, b"second"),
            Await(2), five[4]]
    pongs = [("pong", b"first"), ("pong", b"second")]
    yield good("5.19", many, *pongs, ("text", "onetwothreefourfive"))
    single = [part for it in many for part in (octets(it) if isinstance(it, bytes) else [it])]
    yield good("5.20", single, *pongs, ("text", "onetwothreefourfive"))


def ends():
    """7: the close."""
    hello = [text("Hello"), close(1000)]
    echo = ("text", "Hello")
    yield Case("7.1.1", hello, [echo])
    yield Case("7.1.2", [close(1000), close(1000)], [])
    yield Case("7.1.3", [close(1000), frame(PING)], [])
    yield Case("7.1.4", [close(1000), text("late")], [])
    pieces = fragments(TEXT, ["frag", "ment"])
    yield Case("7.1.5", [pieces[0], close(1000), pieces[1]], [])
    large = "BAsd7&jh23" * 26214
    yield Case("7.1.6", [text(large), text("Hello"), close(1000), frame(PING)],
               [("text", large), echo], lax=[[], [("text", large)]])
    # RFC 6455, section 5.5.1: a close frame without a code gets one without a code.
    yield Case("7.3.1", [close()], [], None)
    yield bad("7.3.2", [frame(CLOSE, b"a")])
    yield Case("7.3.3", [close(1000)], [])
    yield Case("7.3.4", [close(1000, b"Hello World!")], [])
    yield Case("7.3.5", [close(1000, b"*" * 123)], [])
    yield bad("7.3.6", [close(1000, b"*" * 124)])
    wrong = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"
    yield bad("7.5.1", [close(1000, wrong)], code=1007)
    good_codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000,
                  4999]
    for number, code in enumerate(good_codes, 1):
        yield Case(f"7.7.{number}", [close(code)], [], code)
    # Codes that came after RFC 6455, by the registry of IANA.
    for number, code in enumerate([1012, 1013, 1014], len(good_codes) + 1):
        yield Case(f"7.7.{number}", [close(code)], [], code)
    bad_codes = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999]
    for number, code in enumerate(bad_codes, 1):
        yield bad(f"7.9.{number}", [close(code)])
    # TLS's own, which no frame has, and those that nothing reserves.
    for number, code in enumerate([1015, 5000, 65535], 1):
        yield bad(f"7.13.{number}", [close(code)])


def heads():
    """8: masks, and lengths in a form that is too long. Autobahn has none of these."""
    yield bad("8.1", [frame(TEXT, "Hello", right_mask=False)])
    yield bad("8.2", [frame(PING, right_mask=False)])
    yield bad("8.3", [frame(TEXT, "*" * 125, form=126)])
    yield bad("8.4", [frame(BINARY, b"*" * 125, form=1 << 16)])
    yield bad("8.5", [frame(BINARY, b"*" * 65535, form=1 << 16)])
    yield bad("8.6", [frame(BINARY, size=1 << 63)])
    yield bad("8.7", [frame(BINARY, size=(1 << 64) - 1)])
    yield bad("8.8", [frame(PING, size=1 << 62)])
    yield bad("8.9", [frame(TEXT, size=(1 << 63) - 1)], code=1009)
    yield bad("8.10", [frame(BINARY, fin=False, size=1 << 40)], code=1009)
    zero = bytearray(frame(TEXT, ""))
    if masks():
        zero[2:6] = bytes(4)
    yield good("8.11", [bytes(zero)], ("text", ""))


RULES = [sizes, pings, reserved, opcodes, in_pieces, ends, heads]
