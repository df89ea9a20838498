"""Markdown as far as the book needs it: lines, headings, fences and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[3]
BOOK = ROOT / "host/book"
SOURCE = BOOK / "src"
# It is part of the program, too, and so has no notes: its `toml` is settings.
OPERATING = ROOT / "host/OPERATING.md"

FENCE = re.compile(r"^ *(```+)(.*)$")
HEADING = re.compile(r"^(#{1,6}) +(.+?) *#*$")
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^()\s]+)(\))")
ATTRIBUTE = re.compile(r'((?:src|srcset|href)=")([^"]+)(")')
CODE = re.compile(r"(`+)(?:.*?)\1")


class Wrong(Exception):
    """Something in the book that must not be so."""


class Line(NamedTuple):
    """A line, and where it is written."""

    text: str
    file: Path
    number: int

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.number}"


class Fence(NamedTuple):
    """A block of code.

    `notes` are the comments right above it: `file: PATH`, a file that commands
    use; `shows: PATH`, one that they have made; `part of: PATH`, lines of the source; `settings`, a configuration to
    check; `checked by: PROGRAM`; or `not run: REASON`.
    """

    language: str
    lines: list[str]
    notes: dict[str, str]
    place: str


def read(file: Path) -> list[Line]:
    text = file.read_text(encoding="utf-8")
    return [Line(line, file, number) for number, line in enumerate(text.splitlines(), 1)]


def prose(lines: list[Line]) -> Iterator[tuple[int, Line]]:
    """The lines outside of fences, with their indices."""
    fence = None
    for index, line in enumerate(lines):
        found = FENCE.match(line.text)
        if fence is None and found:
            fence = found[1]
        elif fence is not None:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = None
        else:
            yield index, line


def slug(heading: str) -> str:
    """The anchor of a heading, as mdBook and GitHub make it."""
    text = LINK.sub(lambda link: link[1].lstrip("![")[:-2], heading).lower()
    return "".join(c if c.isalnum() or c in "-_" else "-" if c.isspace() else "" for c in text)


def headings(lines: list[Line]) -> Iterator[tuple[int, int, str, str]]:
    """Index, level, text and anchor of each heading."""
    seen: dict[str, int] = {}
    for index, line in prose(lines):
        if found := HEADING.match(line.text):
            anchor = slug(found[2])
            count = seen.get(anchor, 0)
            seen[anchor] = count + 1
            yield index, len(found[1]), found[2], f"{anchor}-{count}" if count else anchor


def section(lines: list[Line], anchor: str) -> list[Line]:
    """Returns the lines below a heading, up to the next one of its level or above."""
    begin = level = None
    for index, depth, _, name in headings(lines):
        if begin is None:
            if name == anchor:
                begin, level = index + 1, depth
        elif depth <= level:
            return lines[begin:index]
    if begin is None:
        raise Wrong(f"{lines[0].file.relative_to(ROOT)} has no section #{anchor}")
    return lines[begin:]


def fences(lines: list[Line]) -> Iterator[tuple[int, Fence]]:
    """The blocks of code, with the indices of their first lines."""
    index = 0
    notes: dict[str, str] = {}
    while index < len(lines):
        line = lines[index]
        index += 1
        if found := re.fullmatch(r"<!-- ([a-z ]+?)(?:: (.*))? -->", line.text.strip()):
            notes[found[1]] = found[2] or ""
            continue
        if not (found := FENCE.match(line.text)):
            if line.text.strip():
                notes = {}
            continue
        begin, mark = index, found[1]
        while index < len(lines) and lines[index].text.strip() != mark:
            index += 1
        if index == len(lines):
            raise Wrong(f"{line.place}: this block has no end")
        content = [inner.text for inner in lines[begin:index]]
        index += 1
        language = found[2].strip()
        if language == "toml" and line.file == OPERATING:
            notes["settings"] = ""
        yield begin - 1, Fence(language, content, notes, line.place)
        notes = {}


def map_links(text: str, change) -> str:
    """The line with `change` done to the target of each link that is no code."""
    parts, end = [], 0
    for code in CODE.finditer(text):
        parts.append((text[end : code.start()], True))
        parts.append((code[0], False))
        end = code.end()
    parts.append((text[end:], True))
    # A link's text may be code, so the code is hidden while links are looked for.
    hidden = [part for part, is_prose in parts if not is_prose]
    joined = "".join(part if is_prose else "\0" for part, is_prose in parts)
    for pattern in (LINK, ATTRIBUTE):
        joined = pattern.sub(lambda link: link[1] + change(link[2]) + link[3], joined)
    for code in hidden:
        joined = joined.replace("\0", code, 1)
    return joined


def is_elsewhere(target: str) -> bool:
    return re.match(r"[a-z]+:", target) is not None
