"""Texts that a `netwasm` prints of itself: help, keys of a configuration, interfaces."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from .pages import Wrong

# The widths of terminals are those of a page.
COLUMNS = "100"
COMMAND = re.compile(r"^  ([a-z]+)  +\S")


class Reference:
    """The pages of reference, of one program."""

    def __init__(self, netwasm: Path):
        self.netwasm = netwasm

    def output(self, *arguments: str) -> str:
        ran = subprocess.run(
            [self.netwasm, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={"COLUMNS": COLUMNS, "HOME": "/nonexistent"},
        )
        if ran.returncode:
            raise Wrong(f"netwasm {' '.join(arguments)}: {ran.stderr.strip()}")
        return ran.stdout

    def expand(self, what: str, arguments: str) -> list[str]:
        match what:
            case "netwasm":
                return ["```text", *self.output(*arguments.split()).splitlines(), "```"]
            case "commands":
                return self.commands()
            case "settings":
                return self.settings()
            case "wit":
                return self.wit()
            case _:
                raise Wrong(f"the book has no {{{{#{what}}}}}")

    def commands(self) -> list[str]:
        """The help of every command that the program lists."""
        overview = self.output("--help").splitlines()
        begin = overview.index("Commands:") + 1
        names = []
        for line in overview[begin:]:
            if not line.strip():
                break
            if found := COMMAND.match(line):
                names.append(found[1])
        lines = []
        for name in names:
            if name != "help":
                lines += [f"## netwasm {name}", "", *self.expand("netwasm", f"{name} --help"), ""]
        return lines

    def settings(self) -> list[str]:
        schema = json.loads(self.output("check", "--schema"))
        service = schema["$defs"]["service"]["properties"]
        whole = schema["then"]["properties"]
        run = {key: about for key, about in whole.items() if key not in service and key != "services"}
        return [
            "## Keys of the run",
            "",
            *table(run),
            "",
            "## Keys of a service",
            "",
            "Above the services, a key is the default of all.",
            "",
            *table(service),
        ]

    def wit(self) -> list[str]:
        lines = []
        with tempfile.TemporaryDirectory() as folder:
            self.output("wit", "--out", folder)
            for file in sorted(Path(folder).glob("**/*.wit")):
                lines += [f"## {file.stem}", "", "```wit", *file.read_text().splitlines(), "```", ""]
        if not lines:
            raise Wrong("netwasm wit --out has written nothing")
        return lines


def table(settings: dict[str, dict]) -> list[str]:
    """The keys with their values, defaults and meanings."""
    rows = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, about in sorted(settings.items()):
        default = f"`{about['default']}`" if "default" in about else ""
        meaning = about.get("description", "").replace("; repeatable", "")
        # A pipe or a star in a cell would be Markdown's.
        meaning = re.sub(r"([|*<_])", r"\\\1", meaning)
        rows.append(f"| `{key}` | {value(about)} | {default} | {meaning} |")
    return rows


def value(about: dict) -> str:
    """The form of a value, in few words."""
    if "enum" in about:
        return ", ".join(f"`{one}`" for one in about["enum"])
    kinds = about.get("type", "string")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "array" in kinds:
        return "text, list or table" if "object" in kinds else "text or list"
    if kinds == ["boolean"]:
        return "`true` or `false`"
    if kinds == ["integer"] or about.get("pattern") == "^[0-9]+$":
        return "number"
    if "[a-z]" in about.get("pattern", ""):
        return "time" if "none" in about["pattern"] else "size"
    return "text" if "string" in kinds else ", ".join(kinds)
