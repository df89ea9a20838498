"""Mends a component that componentize-py 0.25.1 has made, in place.

    python3 mend.py COMPONENT

guests/componentize calls it. Two things are not as a server needs them, and both
are in compiled code that no option reaches:

- Bytes that are sent are never freed (`free_sent`).
- The secret of `hash()` is drawn once, when the component is built, and its
  function is FNV (`draw_secret`).
"""

import array
import re
import struct
import sys

RELEASE = "is that componentize-py 0.25.1?"
CUSTOM, IMPORT, MEMORY, EXPORT, CODE, DATA = 0, 2, 5, 7, 10, 11
PAGE = 65536


def fail(what):
    sys.exit(f"componentize: {what}: {RELEASE}")


# Binary form of WebAssembly


def number(data, at):
    """Reads a number of LEB128. Returns it and where it ends."""
    value = shift = 0
    while True:
        octet = data[at]
        value |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if octet < 0x80:
            return value, at


def encoded(value):
    """Writes a number as LEB128."""
    made = b""
    while value >= 0x80:
        made += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return made + bytes((value,))


def signed(value):
    """Writes a signed number as LEB128."""
    made = b""
    while not -0x40 <= value < 0x40:
        made += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return made + bytes((value & 0x7F,))


def named(data, at):
    """Reads a name. Returns it and where it ends."""
    length, at = number(data, at)
    return bytes(data[at : at + length]), at + length


def sections(data):
    """Yields the kind and the content of each section of a module or component."""
    at = 8
    while at < len(data):
        kind = data[at]
        size, at = number(data, at + 1)
        yield kind, data[at : at + size]
        at += size


def joined(data, parts):
    """The inverse of `sections`; `data` brings the first eight bytes."""
    made = [bytes(data[:8])]
    for kind, content in parts:
        made += (bytes((kind,)), encoded(len(content)), content)
    return b"".join(made)


class Module:
    """A core module of the component."""

    def __init__(self, data):
        self.data = data
        self.parts = [list(part) for part in sections(data)]

    def section(self, wanted):
        """The content of a section, or an empty list."""
        return next((content for kind, content in self.parts if kind == wanted), b"\0")

    def replace(self, wanted, content):
        for part in self.parts:
            if part[0] == wanted:
                part[1] = content

    def bytes(self):
        return joined(self.data, self.parts)

    def exported(self, wanted):
        """The index of a function that it exports, or None."""
        content = self.section(EXPORT)
        count, at = number(content, 0)
        for _ in range(count):
            name, at = named(content, at)
            kind = content[at]
            index, at = number(content, at + 1)
            if kind == 0 and name == wanted:
                return index
        return None

    def imported(self):
        """The names of the functions that it imports."""
        content = self.section(IMPORT)
        count, at = number(content, 0)
        names = []
        for _ in range(count):
            _, at = named(content, at)
            name, at = named(content, at)
            kind = content[at]
            if kind == 1:
                at += 1  # the type of a table's elements
            if kind in (1, 2):
                bounded = content[at + 1]
                _, at = number(content, at + 2)
                if bounded & 1:
                    _, at = number(content, at)
            elif kind == 3:
                at += 3
            else:
                _, at = number(content, at + 1 + (kind == 4))
                if kind == 0:
                    names.append(name)
        return names

    def bodies(self):
        """The bodies of its functions."""
        content = self.section(CODE)
        count, at = number(content, 0)
        made = []
        for _ in range(count):
            size, at = number(content, at)
            made.append(content[at : at + size])
            at += size
        return made

    def replace_bodies(self, bodies):
        made = [encoded(len(bodies))]
        for body in bodies:
            made += (encoded(len(body)), body)
        self.replace(CODE, b"".join(made))


# Bytes that are sent

LEB = rb"(?:[\x80-\xff]{0,4}[\x00-\x7f])"
# Locals: 0 the call, 3 the frame, 1 the object, 4 the copy, 5 a length.
COPIES = re.compile(
    rb"\x20\x03\x28\x02\x34\x22\x00\x41\x7f\x4c\x0d\x08"  # its length, into 0
    rb"\x10" + LEB  # a function that does nothing
    + rb"\x20\x00\x41\x01\x10(?P<allocate>" + LEB + rb")\x21\x04"
    rb"\x20\x03\x41\x08\x6a\x20\x01\x10(?P<octets>" + LEB + rb")"
    rb"\x20\x00\x20\x03\x28\x02\x0c\x22\x05\x47\x0d\x09"  # are the lengths the same?
    rb"\x02\x40\x20\x00\x45\x0d\x00"  # if there is something:
    rb"\x20\x04\x20\x03\x28\x02\x08\x20\x00\xfc\x0a\x00\x00\x0b",  # copies
    re.DOTALL,
)


def free_sent(modules):
    """Mends the copy of each list of bytes that is an argument of an import, which
    the runtime never frees: a program's memory would grow by all that it sends.
    The copy is made by one function, `wit_dylib_pop_list`. Two checks in it cannot
    fail: that bytes are as long as they are, and that no bytes need no copying. In
    their place it calls `wit_dylib_dealloc_bytes`, which frees the memory when the
    call is done, as the runtime does with all other memory."""
    done = 0
    for module in modules:
        free = module.exported(b"wit_dylib_dealloc_bytes")
        if free is None:
            continue

        def mended(found):
            nonlocal done
            done += 1
            return (
                b"\x20\x03\x28\x02\x34\x22\x05\x41\x7f\x4c\x0d\x08"  # its length, into 5
                b"\x20\x05\x41\x01\x10" + found["allocate"] + b"\x21\x04"
                b"\x20\x03\x41\x08\x6a\x20\x01\x10" + found["octets"]
                + b"\x20\x04\x20\x03\x28\x02\x08\x20\x05\xfc\x0a\x00\x00"  # copies
                b"\x20\x00\x20\x04\x20\x05\x41\x01\x41\x01\x10" + encoded(free)  # frees it later
                + b"\x20\x05\x21\x00"  # 0 is its length from here on
            )

        module.replace_bodies([COPIES.sub(mended, bytes(body)) for body in module.bodies()])
    if done != 1:
        fail(f"{done} places copy what is sent, not 1")


# The secret of `hash()`
#
# A component starts with the memory of its build: each string in it knows its
# hash, and tables are laid out by them. So these strings keep their hashes, and
# all others get one by SipHash-1-3 and a secret that each instance draws when it
# first needs it. A table tells which strings those are: of each it has 32 bits of
# SipHash with a key that is no secret, in the place that other bits of it name.
# Another string is taken for one of them once in some four thousand million; it
# keeps its old hash then, always, so that nothing goes wrong by it.

KEY = 0x6E65747761736D00, 0x7079746861736800
WORD = 0xFFFF_FFFF
LONG = 0xFFFF_FFFF_FFFF_FFFF
START = 0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573
# The secret follows the table, and a byte that is 1 once it is drawn.
SECRET_SIZE, STATE_SIZE = 16, 32


def siphash(data):
    """SipHash-1-3 by KEY, as the code below computes it."""

    def rounds(v0, v1, v2, v3, count):
        for _ in range(count):
            v0 = v0 + v1 & LONG
            v2 = v2 + v3 & LONG
            v1 = (v1 << 13 | v1 >> 51) & LONG ^ v0
            v3 = (v3 << 16 | v3 >> 48) & LONG ^ v2
            v0 = (v0 << 32 | v0 >> 32) & LONG
            v2 = v2 + v1 & LONG
            v0 = v0 + v3 & LONG
            v1 = (v1 << 17 | v1 >> 47) & LONG ^ v2
            v3 = (v3 << 21 | v3 >> 43) & LONG ^ v0
            v2 = (v2 << 32 | v2 >> 32) & LONG
        return v0, v1, v2, v3

    v0, v1, v2, v3 = (KEY[index & 1] ^ START[index] for index in range(4))
    whole = len(data) & ~7
    blocks = [*struct.unpack(f"<{whole // 8}Q", data[:whole])]
    blocks.append((len(data) & 0xFF) << 56 | int.from_bytes(data[whole:], "little"))
    for block in blocks:
        v0, v1, v2, v3 = rounds(v0, v1, v2, v3 ^ block, 1)
        v0 ^= block
    v0, v1, v2, v3 = rounds(v0, v1, v2 ^ 0xFF, v3, 3)
    return v0 ^ v1 ^ v2 ^ v3


class Memory:
    """The memory that the component starts with, and the module that has it."""

    def __init__(self, module):
        self.module = module
        content = module.section(MEMORY)
        if content[:2] != b"\1\0":
            fail("its memory is not one without a limit")
        self.pages, end = number(content, 2)
        if end != len(content):
            fail("its memory is not one without a limit")
        self.octets = bytearray(self.pages * PAGE)
        content = module.section(DATA)
        count, at = number(content, 0)
        for _ in range(count):
            if content[at : at + 2] != b"\0\x41":
                fail("its data is not where it was")
            place, at = number(content, at + 2)
            size, at = number(content, at + 1)
            self.octets[place : place + size] = content[at : at + size]
            at += size
        self.count, self.words = count, array.array("I", bytes(self.octets))

    def append(self, data):
        """Puts data behind all memory. Returns where it is."""
        start = self.pages * PAGE
        pages = self.pages + -(-len(data) // PAGE)
        self.module.replace(MEMORY, b"\1\0" + encoded(pages))
        content = self.module.section(DATA)
        _, at = number(content, 0)
        self.module.replace(
            DATA,
            encoded(self.count + 1) + content[at:]
            + b"\0\x41" + signed(start) + b"\x0b" + encoded(len(data)) + data,
        )
        return start

    def word(self, at):
        return self.words[at >> 2] if 0 <= at >> 2 < len(self.words) else 0

    def pointing(self, to):
        """Yields where a pointer is."""
        wanted, at = struct.pack("<I", to), -1
        while (at := self.octets.find(wanted, at + 1)) >= 0:
            if at & 3 == 0:
                yield at


# Offsets in objects of CPython 3.14 on 32 bits, in bytes.
TYPE, SIZE, HASH, STATE = 4, 8, 12, 16
BYTES, ASCII, COMPACT, POINTER = 16, 20, 28, 28
TYPE_FLAGS = 84
IS_READY, IS_BYTES, IS_STR, IS_TYPE = 1 << 12, 1 << 27, 1 << 28, 1 << 31
# Nobody looks up longer strings: memory that looks like one is something else.
LONGEST = 1 << 16


def hashed(memory):
    """The contents of all strings and bytes in memory whose hash was asked for;
    perhaps some more, of objects that are gone."""
    # A name that each Python has, as bytes with their zero.
    word, found = b"__init__\0", []
    at = -1
    while (at := memory.octets.find(word, at + 1)) >= 0:
        if at & 3 == 0 and memory.word(at - ASCII + SIZE) == len(word) - 1:
            found.append(memory.word(at - ASCII + TYPE))
    if not found:
        fail("no string is found in its memory")
    kind = memory.word(max(set(found), key=found.count) + TYPE)
    kinds = [at - TYPE for at in memory.pointing(kind)]
    # Metaclasses have types, too.
    metas = {at for at in kinds if memory.word(at + TYPE_FLAGS) & IS_TYPE}
    for meta in metas - {kind}:
        kinds += [at - TYPE for at in memory.pointing(meta)]
    contents = set()
    for at in kinds:
        flags = memory.word(at + TYPE_FLAGS)
        if not flags & IS_READY or not flags & (IS_BYTES | IS_STR):
            continue
        for place in memory.pointing(at):
            content = content_of(memory, place - TYPE, flags)
            if content:
                contents.add(content)
    return contents


def content_of(memory, at, flags):
    """The content of an object of `str` or `bytes`; None if it is none, or its
    hash was not asked for."""
    size, start, width = memory.word(at + SIZE), at + BYTES, 1
    if flags & IS_STR:
        state = memory.word(at + STATE)
        width = state >> 2 & 7
        if width not in (1, 2, 4):
            return None
        size *= width
        if not state & 0x20:
            start = memory.word(at + POINTER)
        else:
            start = at + (ASCII if state & 0x40 else COMPACT)
    end = start + size
    # All end in a character of zero.
    if memory.word(at + HASH) == WORD or size > LONGEST or any(memory.octets[end : end + width]):
        return None
    return bytes(memory.octets[start:end])


def table_of(contents):
    """The table of what keeps its hash, in places of 32 bits of which 0 is free."""
    places = 1 << (2 * len(contents)).bit_length()
    table = array.array("I", bytes(4 * places))
    for content in contents:
        value = siphash(content)
        place, mark = value & places - 1, value >> 32 or 1
        while table[place] not in (0, mark):
            place = place + 1 & places - 1
        table[place] = mark
    return table


# Instructions

GET, SET, TEE = (lambda local, op=op: bytes((op, local)) for op in (0x20, 0x21, 0x22))
BLOCK, LOOP, IF, END = b"\x02\x40", b"\x03\x40", b"\x04\x40", b"\x0b"
BR, BR_IF = (lambda depth, op=op: bytes((op, depth)) for op in (0x0C, 0x0D))
RETURN, UNREACHABLE = b"\x0f", b"\x00"
ADD32, SUB32, AND32, EQZ32, EQ32, LT_U32 = b"\x6a", b"\x6b", b"\x71", b"\x45", b"\x46", b"\x49"
ADD, OR, XOR, SHL, SHR_U, ROTL = b"\x7c", b"\x84", b"\x85", b"\x86", b"\x88", b"\x89"
WRAP, EXTEND = b"\xa7", b"\xad"
LOAD, LOAD8, LOAD32, LOAD32_8, STORE32_8 = (
    # With no alignment promised, at an offset.
    lambda offset=0, op=op: bytes((op, 0)) + encoded(offset)
    for op in (0x29, 0x31, 0x28, 0x2D, 0x3A)
)


def const32(value):
    return b"\x41" + signed(value - (1 << 32) if value >> 31 else value)


def const(value):
    return b"\x42" + signed(value - (1 << 64) if value >> 63 else value)


def hasher(original, draw, table, places):
    """The body of a function of the place and the size of octets, which are hashed.
    `original` is the body that it takes the place of, and `draw` the function
    `getentropy`."""
    (start, size, at, left, place, secret, k0, k1, v0, v1, v2, v3, block) = range(13)
    state = table + 4 * places

    def half(a, b, c, d, first, second):
        return (
            GET(a) + GET(b) + ADD + SET(a) + GET(c) + GET(d) + ADD + SET(c)
            + GET(b) + const(first) + ROTL + GET(a) + XOR + SET(b)
            + GET(d) + const(second) + ROTL + GET(c) + XOR + SET(d)
            + GET(a) + const(32) + ROTL + SET(a)
        )

    one = half(v0, v1, v2, v3, 13, 16) + half(v2, v1, v0, v3, 17, 21)
    take = GET(v3) + GET(block) + XOR + SET(v3) + one + GET(v0) + GET(block) + XOR + SET(v0)
    keys = b"".join(
        GET((k0, k1)[index & 1]) + const(START[index]) + XOR + SET((v0, v1, v2, v3)[index])
        for index in range(4)
    )
    whole_blocks = (
        BLOCK + LOOP + GET(left) + const32(8) + LT_U32 + BR_IF(1)
        + GET(at) + LOAD() + SET(block) + take
        + GET(at) + const32(8) + ADD32 + SET(at)
        + GET(left) + const32(8) + SUB32 + SET(left) + BR(0) + END + END
    )
    last_block = (
        GET(size) + EXTEND + const(56) + SHL + SET(block)
        + BLOCK + LOOP + GET(left) + EQZ32 + BR_IF(1)
        + GET(left) + const32(1) + SUB32 + SET(left)
        + GET(block) + GET(at) + GET(left) + ADD32 + LOAD8()
        + GET(left) + EXTEND + const(3) + SHL + SHL + OR + SET(block) + BR(0) + END + END
        + take
    )
    finish = (
        GET(v2) + const(0xFF) + XOR + SET(v2) + one * 3
        + GET(v0) + GET(v1) + XOR + GET(v2) + XOR + GET(v3) + XOR + SET(block)
    )
    # `left` is the mark from here on, and `at` what is in a place.
    look_up = (
        GET(block) + WRAP + const32(places - 1) + AND32 + SET(place)
        + GET(block) + const(32) + SHR_U + WRAP + TEE(left) + EQZ32
        + IF + const32(1) + SET(left) + END
        + BLOCK + LOOP
        + GET(place) + const32(4) + b"\x6c" + LOAD32(table) + TEE(at) + EQZ32 + BR_IF(1)
        + GET(at) + GET(left) + EQ32 + BR_IF(4)  # the original knows it
        + GET(place) + const32(1) + ADD32 + const32(places - 1) + AND32 + SET(place)
        + BR(0) + END + END
    )
    draw_once = (
        const32(0) + LOAD32_8(state + SECRET_SIZE) + EQZ32 + IF
        + const32(state) + const32(SECRET_SIZE) + b"\x10" + encoded(draw)
        + IF + UNREACHABLE + END
        + const32(0) + const32(1) + STORE32_8(state + SECRET_SIZE) + END
    )
    again = (
        const32(0) + LOAD(state) + SET(k0) + const32(0) + LOAD(state + 8) + SET(k1)
        + const32(1) + SET(secret)
    )
    # -1 is an error.
    result = (
        GET(block) + WRAP + TEE(at) + const32(WORD) + EQ32
        + IF + const32(WORD - 1) + SET(at) + END
    )
    body = (
        BLOCK
        + GET(size) + EQZ32 + BR_IF(0)
        + const(KEY[0]) + SET(k0) + const(KEY[1]) + SET(k1)
        + LOOP
        + keys + GET(start) + SET(at) + GET(size) + SET(left)
        + whole_blocks + last_block + finish
        + GET(secret) + EQZ32 + IF + look_up + draw_once + again + BR(1) + END
        + END
        + result + GET(at) + RETURN + END
    )
    # Locals: four of 32 bits, seven of 64.
    return b"\x02\x04\x7f\x07\x7e" + body + original[1:]


# The original has no locals, and returns 0 for what is empty.
BEGINNING = b"\x00" + BLOCK + GET(1) + BR_IF(0) + const32(0) + RETURN + END


def draw_secret(modules):
    """Gives each instance a secret of its own for the hashes of strings."""
    memories = [module for module in modules if module.section(MEMORY) != b"\0"]
    found = [
        (module, index)
        for module in modules
        if (index := module.exported(b"Py_HashBuffer")) is not None
    ]
    if len(memories) != 1 or len(found) != 1:
        fail(f"{len(memories)} memories and {len(found)} functions that hash")
    library, index = found[0]
    imported = library.imported()
    bodies = library.bodies()
    index -= len(imported)
    original = bytes(bodies[index])
    if b"getentropy" not in imported or not original.startswith(BEGINNING):
        fail("its hash function is another")
    memory = Memory(memories[0])
    table = table_of(hashed(memory))
    where = memory.append(table.tobytes() + bytes(STATE_SIZE))
    bodies[index] = hasher(original, imported.index(b"getentropy"), where, len(table))
    library.replace_bodies(bodies)


def main(path):
    with open(path, "rb") as file:
        data = file.read()
    parts = [list(part) for part in sections(data)]
    modules = {number: Module(part[1]) for number, part in enumerate(parts) if part[0] == 1}
    free_sent(modules.values())
    draw_secret(modules.values())
    for index, module in modules.items():
        parts[index][1] = module.bytes()
    with open(path, "wb") as file:
        file.write(joined(data, parts))


if __name__ == "__main__":
    main(sys.argv[1])
