"""Proxies that the tests start before a server of theirs: netwasm's gateway, nginx
and haproxy."""

import os
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GUESTS = pathlib.Path(os.environ.get("NETWASM_GUESTS", ROOT / "guests"))
# A debug build takes a while to compile a guest.
START = 120
WAIT = 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Process:
    """A program that runs until the test ends."""

    def __init__(self, command, **options):
        self.command = [str(word) for word in command]
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, **options)

    def resident(self):
        """Its resident memory and the most that it was, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(
            int(re.search(rf"{name}:\s+(\d+) kB", status).group(1)) << 10
            for name in ("VmRSS", "VmHWM"))

    def await_port(self, port, host="127.0.0.1"):
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection((host, port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{self.command[0]} does not listen on {port}") from None
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise SystemExit(f"{self.command[0]} does not end") from None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.stop()


class Netwasm(Process):
    """A run of netwasm, with its addresses and its log."""

    name = "netwasm"

    def __init__(self, program, guest, *arguments, listeners=("--http",)):
        flags = [word for kind in listeners for word in (kind, "127.0.0.1:0")]
        super().__init__(
            [program, "run", GUESTS / f"{guest}.wasm", *flags, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
        self.log, self.addresses = [], {}
        threading.Thread(target=self._read, daemon=True).start()
        late = threading.Timer(START, self.process.kill)
        late.start()
        for _ in listeners:
            line = self.process.stdout.readline()
            found = re.match(r"listening (\w+)://127\.0\.0\.1:(\d+)", line)
            if not found:
                late.cancel()
                raise SystemExit("netwasm does not start: " + "".join(self.log[-5:]))
            self.addresses[found.group(1)] = ("127.0.0.1", int(found.group(2)))
        late.cancel()

    def _read(self):
        for line in self.process.stderr:
            self.log.append(line)

    @property
    def address(self):
        return self.addresses["http"]

    def stop(self):
        status = super().stop()
        if status != 0:
            raise SystemExit(f"netwasm ended with {status}: " + "".join(self.log[-5:]))


def gateway(program, upstream, *flags, **options):
    """netwasm with the gateway, which sends all to one group."""
    flags = ("--upstream", f"site={upstream}", *flags, "--", "/=site")
    return Netwasm(program, "gateway", *flags, **options)


class Configured(Process):
    """A proxy with a configuration in a file."""

    def __init__(self, text, arguments):
        self.folder = tempfile.TemporaryDirectory(prefix="forwarding-")
        # The workers of a proxy that root starts are another user's.
        pathlib.Path(self.folder.name).chmod(0o755)
        file = pathlib.Path(self.folder.name, "configuration")
        file.write_text(text.replace("FOLDER", self.folder.name))
        quiet = open(pathlib.Path(self.folder.name, "log"), "wb")
        super().__init__([*arguments, file], stdout=quiet, stderr=quiet)
        quiet.close()

    def stop(self):
        super().stop()
        self.folder.cleanup()


class Nginx(Configured):
    name = "nginx"

    def __init__(self, upstream_port, extra="", outside=""):
        port = free_port()
        self.address = ("127.0.0.1", port)
        text = f"""
            daemon off; worker_processes 1; pid FOLDER/pid; error_log FOLDER/error;
            events {{ worker_connections 1000; }}
            {outside}
            http {{
                access_log off; keepalive_requests 1000000; client_max_body_size 0;
                client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy;
                fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
                large_client_header_buffers 8 32k; underscores_in_headers on;
                proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;
                map $http_upgrade $option {{ default upgrade; '' ''; }}
                upstream site {{ server 127.0.0.1:{upstream_port}; keepalive 16; }}
                server {{
                    listen 127.0.0.1:{port};
                    {extra}
                    location / {{
                        proxy_pass http://site; proxy_http_version 1.1;
                        proxy_set_header Host $http_host;
                        proxy_set_header Upgrade $http_upgrade;
                        proxy_set_header Connection $option;
                        proxy_pass_header Server; proxy_pass_header Date;
                        proxy_request_buffering off; proxy_next_upstream off;
                    }}
                }}
            }}"""
        super().__init__(text, ["nginx", "-e", "stderr", "-c"])
        self.await_port(port)


class Haproxy(Configured):
    name = "haproxy"

    def __init__(self, upstream_port, server_options="", mode="http"):
        port = free_port()
        self.address = ("127.0.0.1", port)
        text = f"""
global
    maxconn 500
    tune.bufsize 65536
    tune.http.maxhdr 512
defaults
    mode {mode}
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    timeout http-request 10s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    {"http-reuse always" if mode == "http" else ""}
    server one 127.0.0.1:{upstream_port} {server_options}
"""
        super().__init__(text, ["haproxy", "-q", "-db", "-f"])
        self.await_port(port)
