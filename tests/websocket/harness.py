"""Runs of netwasm for the scripts of this directory, and their packages."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = ROOT / "target" / "websocket"
CERTIFICATES = ROOT / "certs"
PACKAGES = ["websockets==17.4", "h2==4.4.1", "aiohttp==3.14.5"]
WAIT = 900


def prepare():
    """Runs the script again in an environment that has the packages of PyPI."""
    python = ENVIRONMENT / "bin" / "python"
    if pathlib.Path(sys.prefix) == ENVIRONMENT:
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execv(python, [python, *sys.argv])


def check(condition, what):
    if not condition:
        raise SystemExit(f"failed: {what}")


class Netwasm:
    """A run of a guest, with its addresses: `http`, and `https` if `secure`."""

    def __init__(self, program, guest, *flags, secure=False, http="127.0.0.1:0",
                 https="127.0.0.1:0"):
        flags = ["--http", http, *flags]
        if secure:
            flags += ["--https", https, "--cert", CERTIFICATES / "cert.pem",
                      "--key", CERTIFICATES / "key.pem"]
        self.process = subprocess.Popen(
            [program, "run", ROOT / f"guests/{guest}.wasm", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ended = threading.Timer(WAIT, self.process.kill)
        self.ended.start()
        self.addresses, self.log = {}, []
        for line in self.process.stdout:
            if found := re.search(r"(https?)://([0-9.]+):([0-9]+)", line):
                self.addresses[found.group(1)] = (found.group(2), int(found.group(3)))
            if len(self.addresses) == 1 + secure:
                break
        else:
            self.ended.cancel()
            raise SystemExit(f"netwasm did not start: {self.process.stderr.read()}")
        self.readers = [threading.Thread(target=self._log, daemon=True),
                        threading.Thread(target=self.process.stdout.read, daemon=True)]
        for reader in self.readers:
            reader.start()
        self.url = "ws://%s:%d/" % self.addresses["http"]

    def _log(self):
        for line in self.process.stderr:
            # The rest is read, but not kept.
            if len(self.log) < 10_000:
                self.log.append(line)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.terminate()
        code = self.process.wait()
        self.ended.cancel()
        for reader in self.readers:
            reader.join()
        if kind is None:
            check(code == 0, f"netwasm ended with {code}: {''.join(self.log[-20:])}")
        else:
            print("".join(self.log[-20:]), file=sys.stderr)


def free_port():
    """Returns a free port. Nobody else takes it in the moment until it is used."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
