"""Puts the replacements in their places, and imports what most programs use.

This runs while a component is built: its memory is kept, so that nothing of it
is done again at each start. No function of the host can be called here.
"""

import gc
import importlib
import os
import sys
import time

from netwasm_python import heap, modules

# Size of the largest pieces that fill free memory, in bytes.
_PIECE = 16 << 10

# First, since compiling leaves much behind: what is imported below lies together then.
modules.install()
heap.fill(_PIECE)

from netwasm_python import signals  # noqa: E402


def _replace(name, module):
    if name in sys.modules:
        raise ImportError(f"{name} is imported already, so it cannot be replaced")
    sys.modules[name] = module


def _count_buffers():
    """Lets os.sysconf() say how many buffers sendmsg() takes: asyncio asks."""
    name, most = "SC_IOV_MAX", 1024
    stock = getattr(os, "sysconf", None)

    def sysconf(wanted, /):
        if wanted == name:
            return most
        if stock is None:
            raise ValueError("unrecognized configuration name")
        return stock(wanted)

    os.sysconf = sysconf
    os.sysconf_names = {**getattr(os, "sysconf_names", {}), name: name}


# The C module `signal` is built on is imported by the interpreter itself, and
# stays below the one that takes its place.
sys.modules["_signal"] = signals.module()
if "signal" in sys.modules:
    raise ImportError("signal is imported already, so it cannot be replaced")

from netwasm_python import polling  # noqa: E402

sys.modules["select"] = polling

from netwasm_python import descriptors, sending_files, sockets, waiting  # noqa: E402

_replace("_socket", sockets)
time.sleep = waiting.sleep
os.kill = signals.kill
sending_files.install()
descriptors.install()
_count_buffers()

sending_files.install_in_socket()

from netwasm_python import tls  # noqa: E402

_replace("_ssl", tls)

import ssl  # noqa: E402

ssl.CHANNEL_BINDING_TYPES.append("tls-exporter")

from netwasm_python import locks, loop, packages, tls_protocol  # noqa: E402

loop.install()
tls_protocol.install()
locks.install()
packages.install()

# Modules that programs of the network import most.
_PRELOADED = """
    argparse asyncio asyncio.sslproto asyncio.staggered base64 collections.abc contextlib
    contextvars copy dataclasses datetime email.parser email.policy email.utils
    encodings.ascii encodings.idna encodings.latin_1 encodings.utf_8 hashlib hmac html http
    http.client http.cookies importlib.metadata importlib.resources inspect ipaddress
    itertools json logging logging.config mimetypes pathlib pkgutil queue random runpy
    secrets shlex string struct tempfile traceback typing urllib.parse urllib.request uuid
    warnings weakref
"""
for _name in _PRELOADED.split():
    importlib.import_module(_name)

from netwasm_python import library  # noqa: E402

library.install()


def finish():
    """Called when all is imported: the collector need not look at it again, and
    so does not copy its memory."""
    modules.finish()
    heap.fill(_PIECE)
    gc.freeze()
