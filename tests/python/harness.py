"""Parts that the tests of Python programs share: programs that run, and what they say."""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
EXAMPLES = ROOT / "guests/python/examples"
# A debug build takes minutes to compile all of Python, once.
START = 600
WAIT = 60


class Failed(Exception):
    """An expectation was not met."""


class Program:
    """A program that runs, whose output is read as it comes."""

    def __init__(self, name, command, **options):
        self.name = name
        self.lines, self.ended = [], False
        self.changed = threading.Condition()
        options.setdefault("stdin", subprocess.DEVNULL)
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **options,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def says(self, pattern, timeout=WAIT):
        """Waits for a line, and returns its match."""

        def found():
            return next(filter(None, (re.search(pattern, line) for line in self.lines)), None)

        with self.changed:
            self.changed.wait_for(lambda: found() or self.ended, timeout)
            if match := found():
                return match
        raise Failed(f"{self.name} does not say {pattern!r}:\n{self.text()}")

    def port(self):
        """The port of 127.0.0.1 that a program says it serves on."""
        return int(self.says(r"serving on .*\('127\.0\.0\.1', (\d+)\)", START).group(1))

    def ends(self, status=0, timeout=START):
        """Waits for its end, and returns its output."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end:\n{self.text()}") from None
        with self.changed:
            self.changed.wait_for(lambda: self.ended, WAIT)
        if self.process.returncode != status:
            raise Failed(
                f"{self.name} ends with {self.process.returncode}, not {status}:\n{self.text()}"
            )
        return self.text()

    def text(self):
        return "\n".join(self.lines)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Runner:
    def __init__(self, netwasm, interpreter, work):
        self.netwasm, self.interpreter, self.work = netwasm, interpreter, work
        self.certificates = work / "certificates"

    def guest(self, script, *arguments, flags=(), before=(), **options):
        """Starts a script in the component, by the words `before` the command."""
        path = pathlib.Path(script)
        command = [self.netwasm, "run", path, "--python", self.interpreter, *flags]
        return Program(
            f"{path.name} in the component",
            [*before, *command, "--", *arguments],
            cwd=self.work,
            **options,
        )

    def native(self, script, *arguments):
        """Starts a script in the machine's own Python."""
        return Program(f"{script} by python3", [sys.executable, "-u", EXAMPLES / script, *arguments])

    def wasm(self, guest, *flags):
        """Starts one of our guests in Rust."""
        return Program(guest, [self.netwasm, "run", ROOT / "guests" / guest, *flags])


LISTEN = ("--allow-listen", "localhost:*")
# The name, and the address that some programs have instead.
CONNECT = (
    "--allow-connect", "localhost:*", "--allow-connect", "127.0.0.1:*",
    "--allow-resolve", "localhost",
)


def expect(text, *parts):
    for part in parts:
        if part not in text:
            raise Failed(f"{part!r} is not in:\n{text}")


def fetch(url, *options):
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "60", *options, url],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Failed(f"curl {url}: {done.stderr}")
    return done.stdout


def tests():
    """Returns a list, and a decorator that puts functions in it."""
    listed = []

    def check(function):
        listed.append(function)
        return function

    return listed, check


def make_certificates(folder):
    """An authority, and certificates of a server and a client, for a day."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def openssl(*arguments):
        subprocess.run(
            ["openssl", *map(str, arguments)], check=True, cwd=folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-days", 1, "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=netwasm test authority",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, subject, names in (
        ("server", "localhost", "DNS:localhost,IP:127.0.0.1,IP:::1"),
        ("client", "client", "DNS:client"),
    ):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        (folder / "extensions").write_text(
            f"subjectAltName={names}\nbasicConstraints=critical,CA:FALSE\n"
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
            "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-days", 1, "-out", f"{name}.pem", "-extfile", "extensions")


def main(description, listed):
    """Makes the interpreter, and runs the tests that the command line names."""
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("netwasm", type=pathlib.Path)
    parser.add_argument("--interpreter", type=pathlib.Path)
    parser.add_argument(
        "--only", default="", help="the tests whose names have this word, or one of WORD,WORD"
    )
    options = parser.parse_args()
    netwasm = options.netwasm.resolve()
    work = ROOT / "target/python"
    work.mkdir(parents=True, exist_ok=True)
    os.environ["NETWASM"] = str(netwasm)
    os.environ.setdefault("NETWASM_TOOLS", str(ROOT / "target/other-languages"))
    interpreter = options.interpreter
    if interpreter is None:
        interpreter = work / "python.wasm"
        print("-- the interpreter", flush=True)
        subprocess.run([ROOT / "guests/componentize", "python", interpreter], check=True)
    make_certificates(work / "certificates")
    run = Runner(netwasm, interpreter.resolve(), work)
    failed = []
    for function in listed:
        if not any(word in function.__name__ for word in options.only.split(",")):
            continue
        print(f"-- {function.__doc__}", flush=True)
        try:
            function(run)
        except Failed as error:
            failed.append(function.__name__)
            print(f"{function.__name__}: {error}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"{sys.argv[0]}: these failed: {', '.join(failed)}")
    print(f"{sys.argv[0]}: Python's programs run as they are")
