"""The chapters: what they include, and where each of their links leads.

A line of a chapter may be one of these:

    {{#include ../../OPERATING.md#reload}}   the section below a heading, or a
                                             whole file without its title
    {{#netwasm run --help}}                  what the program prints
    {{#settings}}, {{#wit}}                  the keys of a configuration, the
                                             interfaces
"""

import os
import re
from pathlib import Path

from .pages import BOOK, ROOT, SOURCE, Line, Wrong, headings, is_elsewhere, map_links, prose, read, section

REPOSITORY = "https://github.com/netwasm/netwasm"
DIRECTIVE = re.compile(r"^\{\{#([a-z]+) ?(.*)\}\}$")
ENTRY = re.compile(r"^ *(?:- )?\[([^\]]+)\]\(([^)]+)\)$")


def summary() -> list[tuple[str, str]]:
    """Title and path of each chapter, in the order of SUMMARY.md."""
    lines = read(SOURCE / "SUMMARY.md")
    found = [ENTRY.match(line.text) for line in lines]
    for line, entry in zip(lines, found):
        if not entry and line.text.strip() and not line.text.startswith("# "):
            raise Wrong(f"{line.place}: neither a part's title nor a chapter")
    return [(entry[1], entry[2]) for entry in found if entry]


class Book:
    """All chapters, with what they include."""

    def __init__(self, reference=None):
        self.reference = reference
        self.chapters: dict[str, list[Line]] = {}
        # The chapter that has a section of a file not its own; `None` is the whole file.
        self.places: dict[tuple[Path, str | None], str] = {}
        for _, name in summary():
            self.chapters[name] = self._expand(name)

    def _expand(self, name: str) -> list[Line]:
        lines = []
        for line in read(SOURCE / name):
            directive = DIRECTIVE.match(line.text)
            if not directive:
                lines.append(line)
            elif directive[1] == "include":
                lines += self._include(name, line, directive[2])
            elif self.reference is not None:
                texts = self.reference.expand(directive[1], directive[2])
                lines += [Line(text, line.file, line.number) for text in texts]
        return lines

    def _include(self, name: str, line: Line, target: str) -> list[Line]:
        path, _, anchor = target.partition("#")
        file = (line.file.parent / path).resolve()
        if not file.is_file():
            raise Wrong(f"{line.place}: there is no {path}")
        lines = read(file)
        if anchor:
            included = section(lines, anchor)
            self._note((file, anchor), name, line)
        else:
            has_title = lines[0].text.startswith("# ")
            included = lines[1:] if has_title else lines
            self._note((file, None), name, line)
        for _, _, _, inner in headings(included):
            self._note((file, inner), name, line)
        return included

    def _note(self, key: tuple[Path, str | None], name: str, line: Line) -> None:
        if key in self.places:
            raise Wrong(f"{line.place}: {key[0].name}#{key[1]} is in {self.places[key]} already")
        self.places[key] = name

    def target(self, name: str, line: Line, link: str) -> str:
        """Where a link of a chapter leads, as written in the built chapter.

        Raises Wrong if it leads nowhere.
        """
        if is_elsewhere(link):
            return link
        path, _, anchor = link.partition("#")
        file = (line.file.parent / path).resolve() if path else line.file
        chapter = self._chapter_of(file, anchor or None)
        if chapter is None:
            return repository_link(line, file, anchor)
        own = file.is_relative_to(SOURCE)
        lines = self.chapters[chapter] if own else read(file)
        if anchor:
            check_anchor(line, lines, link, anchor)
        # A section that is a chapter has that chapter's title for its heading.
        if not own and anchor and anchor not in {name for *_, name in headings(self.chapters[chapter])}:
            anchor = ""
        if chapter == name:
            return f"#{anchor}" if anchor else Path(chapter).name
        where = os.path.relpath(chapter, Path(name).parent)
        return f"{where}#{anchor}" if anchor else where

    def _chapter_of(self, file: Path, anchor: str | None) -> str | None:
        if file.is_relative_to(SOURCE) and file.suffix == ".md":
            name = str(file.relative_to(SOURCE))
            return name if name in self.chapters else None
        if file.is_relative_to(SOURCE):
            return None
        return self.places.get((file, anchor)) or self.places.get((file, None))

    def built(self, name: str) -> str:
        """The text of a chapter as mdBook takes it."""
        lines = self.chapters[name]
        texts = [line.text for line in lines]
        for index, line in prose(lines):
            texts[index] = map_links(line.text, lambda link: self.target(name, line, link))
        return "\n".join(texts) + "\n"


def repository_link(line: Line, file: Path, anchor: str) -> str:
    """A link to a file that is no chapter."""
    if not file.exists() or not file.is_relative_to(ROOT):
        raise Wrong(f"{line.place}: there is no {os.path.relpath(file, ROOT)}")
    if anchor:
        check_anchor(line, read(file), anchor, anchor)
    if file.is_relative_to(SOURCE):
        return os.path.relpath(file, line.file.parent)
    kind = "tree" if file.is_dir() else "blob"
    link = f"{REPOSITORY}/{kind}/main/{file.relative_to(ROOT)}"
    return f"{link}#{anchor}" if anchor else link


def check_anchor(line: Line, lines: list[Line], link: str, anchor: str) -> None:
    if anchor not in {name for *_, name in headings(lines)}:
        raise Wrong(f"{line.place}: {link}: there is no heading of that name")
