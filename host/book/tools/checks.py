"""Checks of all pages that need no program."""

from pathlib import Path

from . import pictures
from .book import Book, repository_link, summary
from .pages import BOOK, ROOT, SOURCE, Fence, Line, Wrong, fences, headings, is_elsewhere, map_links, prose, read

# Pages beside the book whose links are checked too.
BESIDE = ["*.md", "certs/*.md", "guests/*/README.md", "host/*.md", "host/*/README.md", "wit/*.md"]
# Files whose every section is in the book.
WHOLE = ["host/OPERATING.md"]
# Files whose blocks are compiled as documentation of a crate, by `cargo test`.
COMPILED = ("guests/netwasm-guest/", "guests/netwasm-test/")
# A block in these languages is run, written to a file that is, or says why not.
TRIED = {"c", "console", "go", "javascript", "python", "rust", "toml", "typescript"}
SHOWN = {"dockerfile", "http", "ini", "json", "nginx", "sh", "text", "wit", "yaml"}
LONGEST = 500


def every() -> list[str]:
    """All that is wrong, a line each."""
    wrong: list[str] = []

    def check(what, *arguments) -> None:
        try:
            what(*arguments)
        except Wrong as error:
            wrong.append(str(error))

    try:
        book = Book()
    except Wrong as error:
        return [str(error)]
    check(all_chapters_are_listed, book)
    check(all_sections_are_in_the_book, book)
    for name, lines in book.chapters.items():
        check(has_one_title, name, lines)
        check(fences_are_tried, lines, name)
        for _, line in prose(lines):
            check(map_links, line.text, lambda link, line=line: book.target(name, line, link))
    for file in [file for pattern in BESIDE for file in ROOT.glob(pattern)]:
        for _, line in prose(read(file)):
            check(map_links, line.text, lambda link, line=line: leads_somewhere(line, link))
    check(fences_are_tried, read(ROOT / "README.md"), "README.md")
    for path in [*SOURCE.glob("**/*.md"), *BOOK.glob("tools/*.py")]:
        check(is_short, path)
    check(pictures.are_current)
    return list(dict.fromkeys(wrong))


def all_chapters_are_listed(book: Book) -> None:
    names = [name for _, name in summary()]
    there = {str(path.relative_to(SOURCE)) for path in SOURCE.glob("**/*.md")} - {"SUMMARY.md"}
    if missing := there - set(names):
        raise Wrong(f"SUMMARY.md lacks {', '.join(sorted(missing))}")
    if len(names) != len(set(names)):
        raise Wrong("SUMMARY.md has a chapter twice")


def all_sections_are_in_the_book(book: Book) -> None:
    for path in WHOLE:
        file = ROOT / path
        sections = [(text, anchor) for _, level, text, anchor in headings(read(file)) if level == 2]
        if missing := [text for text, anchor in sections if (file, anchor) not in book.places]:
            lines = "a line {{#include ../../../OPERATING.md#ANCHOR}}"
            raise Wrong(f"{path}: no chapter of the book has {', '.join(missing)}; each needs {lines}")


def has_one_title(name: str, lines: list[Line]) -> None:
    titles = [text for _, level, text, _ in headings(lines) if level == 1]
    if len(titles) != 1 or not lines[0].text.startswith("# "):
        raise Wrong(f"{name}: a chapter begins with its one title")


def fences_are_tried(lines: list[Line], name: str) -> None:
    for _, fence in fences(lines):
        if fence.language in SHOWN:
            continue
        language = fence.language.partition(",")[0]
        if language not in TRIED:
            raise Wrong(f"{fence.place}: a block in {fence.language or 'no language'}")
        if source := fence.notes.get("part of"):
            is_part(fence, ROOT / source)
        notes = {"file", "part of", "shows", "settings", "checked by"} & set(fence.notes)
        is_tried = language == "console" or notes or fence.place.startswith(COMPILED)
        if not is_tried and not fence.notes.get("not run"):
            raise Wrong(f"{fence.place}: neither a file that is run, nor why it is not")


def is_part(fence: Fence, file: Path) -> None:
    if "\n".join(fence.lines) not in file.read_text():
        raise Wrong(f"{fence.place}: this is not in {file.relative_to(ROOT)}")


def leads_somewhere(line: Line, link: str) -> str:
    if is_elsewhere(link):
        return link
    path, _, anchor = link.partition("#")
    file = (line.file.parent / path).resolve() if path else line.file
    return repository_link(line, file, anchor)


def is_short(path: Path) -> None:
    count = len(path.read_text().splitlines())
    if count > LONGEST:
        raise Wrong(f"{path.relative_to(ROOT)}: {count} lines, and {LONGEST} at most")
