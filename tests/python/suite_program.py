"""Runs modules of CPython's own tests, and prints how each test ended:

    python3 suite_program.py MODULE [TEST TO LEAVE OUT]...

A line has the outcome, the test's name, and the last line of what it raised.
The servers that suite_peers.py has are used where tests would start such; those whose
peers are other threads or processes are told apart: a component has neither.
"""

import contextlib
import functools
import json
import os
import sys
import sysconfig
import time
import types
import unittest

# It is not what a shell would split, and test.support splits it.
sysconfig.get_config_vars()["CONFIG_ARGS"] = ""

# test_events wants it for terminals, which it then finds to be missing.
sys.modules["tty"] = types.ModuleType("tty")
# Files are written where the program is.
os.chdir(os.environ.get("TMPDIR", "."))

from test import support  # noqa: E402
from test.support import os_helper, socket_helper  # noqa: E402

# test.support knows WASI without sockets.
support.has_socket_support = True
# A test that waits for a peer that never comes would wait for long.
support.SHORT_TIMEOUT = support.LONG_TIMEOUT = support.LOOPBACK_TIMEOUT = 5.0


def socket_path():
    """The path of a Unix socket: one, since it has to be allowed."""
    os_helper.unlink("socket")
    return "./socket"


# So that what tries whether there are Unix sockets has a path that can be allowed.
os_helper.TESTFN = "file_"
socket_helper.create_unix_domain_name = socket_path

# The servers of tests, which are threads natively, are a program outside.
peers = json.loads(os.environ["PEERS"])


@contextlib.contextmanager
def peer(name, *, use_ssl=False):
    address = peers[name + "-tls" if use_ssl else name]
    yield types.SimpleNamespace(address=address if isinstance(address, str) else tuple(address))


@contextlib.contextmanager
def udp_peer():
    yield tuple(peers["udp"])


from test.test_asyncio import utils  # noqa: E402

utils.run_test_server = functools.partial(peer, "tcp")
utils.run_test_unix_server = functools.partial(peer, "unix")
utils.run_udp_echo_server = udp_peer

# A lock that a thread should release is waited for without an end.
locks = sys.modules.get("netwasm_python.locks")
if locks:
    stock_wait = locks.Lock._wait

    def wait(lock, timeout):
        if timeout == -1:
            raise RuntimeError("a component has no threads: nobody releases this lock")
        return stock_wait(lock, timeout)

    locks.Lock._wait = wait


class Result(unittest.TestResult):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.begun = 0

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def say(self, outcome, test, text=""):
        took = time.monotonic() - self.begun
        lines = str(text).strip().splitlines()
        print(outcome, test.id(), f"{took:.1f}s", lines[-1][:200] if lines else "", sep="\t", flush=True)

    def fail(self, outcome, test, error):
        text = self._exc_info_to_string(error, test)
        if "has no threads" in text or "can't start new thread" in text:
            outcome = "threads"
        elif "starts no processes" in text or "does not support processes" in text:
            outcome = "processes"
        self.say(outcome, test, text)

    def addSuccess(self, test):
        self.say("ok", test)

    def addSkip(self, test, reason):
        self.say("skipped", test, reason)

    def addError(self, test, error):
        self.fail("ERROR", test, error)

    def addFailure(self, test, error):
        self.fail("FAILED", test, error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.fail("FAILED", test, error)

    def addExpectedFailure(self, test, error):
        self.say("ok", test)


def kept(tests, left_out):
    """The tests of a suite but those that are left out, by the ends of their names."""
    for test in tests:
        if isinstance(test, unittest.TestSuite):
            yield from kept(test, left_out)
        elif not test.id().endswith(left_out):
            yield test


name, *left_out = sys.argv[1:]
tests = unittest.defaultTestLoader.loadTestsFromName(name)
result = Result()
# A suite of all of them still calls setUpClass and setUpModule.
unittest.TestSuite(kept(tests, tuple(left_out))).run(result)
print(f"{name}: {result.testsRun} run", flush=True)
