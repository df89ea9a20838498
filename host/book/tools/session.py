"""Runs the commands of a page, and compares what they print.

A page is tried in a folder that looks like a clone, in order: a block with a
note `file: PATH` is written there, one with a note `shows: PATH` must be what is
there, and the commands of a `console` block run in one shell. A line `...` stands for any lines, `…` in a line for any text. What
commands print on standard error is not compared. A command that listens goes on
in the background, and ends with its section. With a private network, ports that
pages name are free.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from .pages import ROOT, Fence, Line, Wrong, fences, headings

END = "\x01"
SHELL = """
export PS1=; exec 8>&1
while IFS= read -r -d '' -u 9 command; do
    eval "$command" </dev/null 9<&- 8>&-
    printf '\\x01%s\\n' $? >&8
done
kill $(jobs -p) 2>/dev/null; wait
"""
IS_PRIVATE = ["unshare", "--net", "--", "sh", "-c", "ip link set lo up"]


def is_private() -> bool:
    """True if programs can have a network of their own."""
    try:
        return subprocess.run(IS_PRIVATE, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class Session:
    """A shell in a folder of its own."""

    def __init__(self, netwasm: Path, folder: Path, private: bool, patience: int):
        self.folder = folder
        self.patience = patience
        for entry in ROOT.iterdir():
            if entry.is_file():
                shutil.copy(entry, folder)
            elif entry.name not in {".git", "target"}:
                (folder / entry.name).symlink_to(entry)
        programs = folder / ".programs"
        programs.mkdir()
        (programs / "netwasm").symlink_to(netwasm)
        path = f"{programs}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "NETWASM": str(netwasm), "COLUMNS": "100"}
        self.private = private
        self.output = folder / ".output"
        self.errors = folder / ".errors"
        self.where = str(folder)
        self.start()

    def start(self) -> None:
        self.output.write_text("")
        self.errors.write_text("")
        read, self.commands = os.pipe()
        shell = ["bash", "--norc", "-c", SHELL]
        if self.private:
            joined = shlex.join(shell)
            shell = ["unshare", "--net", "--", "sh", "-c", f"ip link set lo up; exec {joined}"]
        # The shell finds the commands at 9.
        wrapped = ["sh", "-c", f"exec 9<&{read}; exec {shlex.join(shell)}"]
        self.shell = subprocess.Popen(
            wrapped,
            cwd=self.where,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output.open("ab"),
            stderr=self.errors.open("ab"),
            pass_fds=[read],
            start_new_session=True,
        )
        os.close(read)

    def end(self) -> None:
        """Ends the shell, and what it has started."""
        os.close(self.commands)
        try:
            self.shell.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.shell.pid, signal.SIGKILL)
            self.shell.wait()

    def restart(self) -> None:
        """Ends what goes on in the background; the shell stays where it is."""
        self.run("pwd >.where", [], "")
        self.where = next(Path(self.folder).glob("**/.where")).read_text().strip()
        next(Path(self.folder).glob("**/.where")).unlink()
        self.end()
        self.start()

    def run(self, command: str, expected: list[str], place: str) -> None:
        begin = self.output.stat().st_size
        os.write(self.commands, command.encode() + b"\0")
        deadline = time.monotonic() + self.patience
        printed, status = "", None
        while True:
            printed = self.output.read_bytes()[begin:].decode(errors="replace")
            if status is None and (found := re.search(f"{END}([0-9]+)\n", printed)):
                status = int(found[1])
            printed = re.sub(f"{END}[0-9]+\n", "", printed).replace("\r\n", "\n")
            if status is not None and (status or not expected or matches(expected, printed)):
                break
            if time.monotonic() > deadline or self.shell.poll() is not None:
                break
            time.sleep(0.02)
        if status != 0 or expected and not matches(expected, printed):
            wanted = "\n".join(expected)
            raise Wrong(
                f"{place}: $ {command}\nended with {status}; wanted\n{wanted}\n-- got\n{printed}"
                f"-- standard error\n{self.errors.read_text()[-4000:]}"
            )


def matches(expected: list[str], printed: str) -> bool:
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += "[^\\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ \t]*\n"
    if printed and not printed.endswith("\n"):
        printed += "\n"
    return re.fullmatch(pattern, printed) is not None


def commands(lines: list[str]) -> list[tuple[str, list[str]]]:
    """The commands of a block, each with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    goes_on = False
    for line in lines:
        if goes_on:
            command, expected = found.pop()
            found.append((f"{command}\n{line.removeprefix('> ')}", expected))
        elif line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
        goes_on = found[-1][0].endswith("\\") if found and not found[-1][1] else False
    return found


def as_run(command: str, expected: list[str]) -> str:
    """The command, with the program in place of cargo, and in the background if it listens."""
    command = command.replace("cargo run --release --", "netwasm")
    listens = bool(expected) and expected[0].startswith("listening ")
    bare = re.sub(r"\s+# .*$", "", command)
    if listens and not bare.endswith("&") and ";" not in bare:
        return f"{bare} &"
    return command


def try_page(name: str, lines: list[Line], netwasm: Path, patience: int) -> int:
    """Runs a page. Each command has `patience` seconds. Returns their number."""
    steps = [(index, fence) for index, fence in fences(lines) if is_run(fence)]
    if not steps:
        return 0
    needs_network = any(line.text.startswith("<!-- network") for line in lines)
    begins = [index for index, level, *_ in headings(lines) if level == 2]
    count = 0
    with tempfile.TemporaryDirectory(prefix="netwasm-book-") as folder:
        session = Session(netwasm, Path(folder), is_private() and not needs_network, patience)
        try:
            last = 0
            for index, fence in steps:
                if any(last < begin < index for begin in begins):
                    session.restart()
                last = index
                if "file" in fence.notes:
                    write(Path(folder), fence.notes["file"], fence.lines)
                    continue
                if "settings" in fence.notes:
                    check_settings(session, fence)
                    continue
                if "shows" in fence.notes:
                    compare(Path(folder) / fence.notes["shows"], fence)
                    continue
                for command, expected in commands(fence.lines):
                    session.run(as_run(command, expected), expected, f"{name}, {fence.place}")
                    count += 1
        finally:
            session.end()
    return count


def is_run(fence: Fence) -> bool:
    if "not run" in fence.notes or "checked by" in fence.notes:
        return False
    return fence.language == "console" or bool({"file", "settings", "shows"} & set(fence.notes))


def check_settings(session: Session, fence: Fence) -> None:
    """Checks a configuration that names files which are not here, or only part of one."""
    lines = fence.lines
    if not any(line.startswith("[services.") for line in lines):
        lines = [*lines, "[services.part]", 'component = "echo"', 'tls = "127.0.0.1:0"']
        lines += ['cert = "certs/cert.pem"', 'key = "certs/key.pem"']
    write(session.folder, "settings.toml", lines)
    # No such file, and no right to write where there is no such directory.
    session.run("netwasm check settings.toml >.found 2>&1 || true", [], fence.place)
    found = (session.folder / ".found").read_text().splitlines()
    if wrong := [line for line in found if re.match(r"settings\.toml:\d", line) and "No such file" not in line]:
        raise Wrong(f"{fence.place}: " + "\n".join(wrong))


def compare(file: Path, fence: Fence) -> None:
    if file.read_text().splitlines() != fence.lines:
        raise Wrong(f"{fence.place}: {fence.notes['shows']} is another text:\n{file.read_text()}")


def write(folder: Path, name: str, lines: list[str]) -> None:
    file = folder / name
    first = folder / Path(name).parts[0]
    if first.is_symlink():
        raise Wrong(f"{name} is a file of the repository")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
