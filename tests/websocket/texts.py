"""The cases of text, numbered as Autobahn's test suite numbers them, which has them of
Markus Kuhn's stress test of UTF-8."""

from frames import TEXT, cut, fragments, frame
from rules import AWAIT_CLOSE, bad, good

GREEK = "κόσμε".encode()
SURROGATE = GREEK + b"\xed\xa0\x80" + b"edited"
BEYOND = b"\xf4\x90\x80\x80"
MIXED = "Hello-µ@ßöäüàá-UTF-8!!".encode()


def whole(name, payload, is_valid):
    """The text in one frame, and byte by byte."""
    sent = frame(TEXT, payload)
    for how, parts in [("", [sent]), (" by the octet", cut(sent, 1))]:
        if is_valid:
            yield good(name + how, parts, ("text", payload.decode()))
        else:
            yield bad(name + how, parts, code=1007)


def pieces():
    """6.1 to 6.4: texts in fragments, and how soon a wrong one fails."""
    empty = ("text", "")
    yield good("6.1.1", [frame(TEXT)], empty)
    yield good("6.1.2", fragments(TEXT, ["", "", ""]), empty)
    middle = "middle frame payload"
    yield good("6.1.3", fragments(TEXT, ["", middle, ""]), ("text", middle))
    mixed = ("text", MIXED.decode())
    yield good("6.2.1", [frame(TEXT, MIXED)], mixed)
    yield good("6.2.2", fragments(TEXT, [MIXED[:12], MIXED[12:]]), mixed)
    yield good("6.2.3", fragments(TEXT, cut(MIXED, 1)), mixed)
    yield good("6.2.4", fragments(TEXT, cut(GREEK, 1)), ("text", GREEK.decode()))
    yield bad("6.3.1", [frame(TEXT, SURROGATE)], code=1007)
    yield bad("6.3.2", fragments(TEXT, cut(SURROGATE, 1)), code=1007)
    # The rest is never sent: the server is to fail without it.
    three = [GREEK, BEYOND, b"edited"]
    yield bad("6.4.1", [*fragments(TEXT, three)[:2], AWAIT_CLOSE], code=1007)
    three = [GREEK + b"\xf4", b"\x90", b"\x80\x80edited"]
    yield bad("6.4.2", [*fragments(TEXT, three)[:2], AWAIT_CLOSE], code=1007)
    sent = frame(TEXT, GREEK + BEYOND + b"edited")
    head = len(sent) - len(GREEK + BEYOND + b"edited") + len(GREEK)
    yield bad("6.4.3", [sent[:head], sent[head:head + 4], AWAIT_CLOSE], code=1007)
    yield bad("6.4.4", [sent[:head + 1], sent[head + 1:head + 2], AWAIT_CLOSE], code=1007)


def hexed(*texts):
    return [bytes.fromhex(text) for text in texts]


def lonely(first, last):
    """Each of these bytes, followed by a space."""
    return b"".join(bytes([byte, 0x20]) for byte in range(first, last + 1))


# Without the last byte.
CUT = hexed("c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf",
            "fbbfbfbf", "fdbfbfbfbf")
SURROGATES = hexed("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf")
PAIRS = hexed("eda080edb080", "eda080edbfbf", "edadbfedb080", "edadbfedbfbf",
              "edae80edb080", "edae80edbfbf", "edafbfedb080", "edafbfedbfbf")
NONCHARACTERS = [chr(0x10000 * plane + low).encode() for plane in range(17)
                 for low in (0xFFFE, 0xFFFF)]
SPECIALS = [chr(code).encode() for code in range(0xFFF9, 0x10000)]

# The numbers of groups, with what is valid of them and what is not.
GROUPS = [
    (5, [GREEK, *[part.encode() for part in ["κ", "ό", "σμε", "κόσμεκόσμε"]]], []),
    (7, hexed("00", "c280", "e0a080", "f0908080"), []),
    (8, [], hexed("f888808080", "fc8480808080")),
    (9, hexed("7f", "dfbf", "efbfbf", "f48fbfbf"), []),
    (10, [], hexed("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf")),
    (11, hexed("ed9fbf", "ee8080", "efbfbd", "f48fbfbf"), [BEYOND]),
    (12, [], [*hexed("80", "bf"), *[(b"\x80\xbf" * 4)[:count] for count in range(2, 8)],
              bytes([*range(0x80, 0xC0)])]),
    (13, [], [lonely(0xC0, 0xDF), lonely(0xE0, 0xEF), lonely(0xF0, 0xF7),
              lonely(0xF8, 0xFB), lonely(0xFC, 0xFD)]),
    (14, [], CUT),
    (15, [], [b"".join(CUT)]),
    (16, [], hexed("fe", "ff", "fefeffff")),
    (17, [], hexed("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af")),
    (18, [], hexed("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf")),
    (19, [], hexed("c080", "e08080", "f0808080", "f880808080", "fc8080808080")),
    (20, [], SURROGATES),
    (21, [], PAIRS),
    (22, NONCHARACTERS, []),
    (23, SPECIALS, []),
]


def bytes_of_all_kinds():
    """6.5 to 6.23: valid and invalid texts."""
    # 6.6: whatever part of a word came, it is valid if it ends with a character.
    for number in range(1, len(GREEK) + 1):
        part = GREEK[:number]
        yield from whole(f"6.6.{number}", part, part.decode(errors="ignore").encode() == part)
    for group, valid, invalid in GROUPS:
        for number, payload in enumerate([*valid, *invalid], 1):
            yield from whole(f"6.{group}.{number}", payload, number <= len(valid))


TEXTS = [pieces, bytes_of_all_kinds]
