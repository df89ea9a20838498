"""Runs a script, as the command `python` does.

    python SCRIPT [ARGUMENT...]
    python -m MODULE [ARGUMENT...]
    python -c CODE [ARGUMENT...]
    python -V
"""

import atexit
import importlib.util
import io
import linecache
import logging
import os
import sys
import time
import types

from netwasm_python import host, signals

_USAGE = "usage: python [-u] [-W WARNING] [SCRIPT | -m MODULE | -c CODE | - | -V] [ARGUMENT...]"
# Frames of these are above each program, and tell its author nothing.
_ABOVE = {__file__, "<frozen runpy>"}
_ADAPTER = os.path.dirname(__file__) + os.sep


# The name and the source of the script that a component brings, if it brings one.
_bundled = None


def bundle(name):
    """Takes the script along that guests/componentize put beside the entry.
    Called while a component is built."""
    global _bundled
    for folder in sys.path:
        path = os.path.join(folder, "netwasm_script.txt")
        if os.path.exists(path):
            with open(path, "rb") as file:
                _bundled = name, file.read()
            return
    raise ImportError("netwasm_script.txt is not there")


class Run:
    """The export wasi:cli/run."""

    def run(self):
        status = main()
        if status:
            host.call(host.EXIT, [status])
        return object.__new__(host.Ok)


def main():
    """Runs what the arguments name, and returns its exit status."""
    _open_streams()
    signals.start()
    os._exit = _exit
    logging._startTime = time.time_ns()
    folder = os.environ.pop("NETWASM_PYTHON_FOLDER", None)
    if folder:
        os.chdir(folder)
    sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    try:
        run = _chosen if _bundled is None else _run_bundled
        status = _status_of(run, sys.argv[1:])
        return _status_of(atexit._run_exitfuncs) or status
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass


def _exit(status):
    host.call(host.EXIT, [status & 255])


def _open_streams():
    """The streams of the build are gone. Lines are written as they end."""
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        io.BufferedReader(_file(0, "r", "<stdin>")), encoding="utf-8", errors="surrogateescape"
    )
    sys.stdin.mode = "r"
    for number, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        stream = io.TextIOWrapper(
            io.BufferedWriter(_file(number, "w", f"<{name}>")),
            encoding="utf-8",
            errors=errors,
            line_buffering=True,
        )
        stream.mode = "w"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _file(number, mode, name):
    file = io.FileIO(number, mode, closefd=False)
    file.name = name
    return file


def _status_of(run, *arguments):
    """Calls, and turns what it raises into an exit status, as `python` does."""
    try:
        run(*arguments)
    except SystemExit as error:
        code = error.code
        if code is None:
            return 0
        if isinstance(code, int):
            return code & 255
        print(code, file=sys.stderr)
        return 1
    except BaseException as error:
        _report(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _report(error):
    _shorten(error, set())
    frames = error.__traceback__
    try:
        sys.excepthook(type(error), error, frames)
    except BaseException as worse:
        print("Error in sys.excepthook:", file=sys.stderr)
        sys.__excepthook__(type(worse), worse, worse.__traceback__)


def _shorten(error, seen):
    """Takes out the frames that would not be there natively: those above the
    program, and those of what is C there."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    frames = error.__traceback__
    while frames is not None and _file_of(frames) in _ABOVE:
        frames = frames.tb_next
    error.__traceback__ = frames
    last = None
    while frames is not None:
        if not _file_of(frames).startswith(_ADAPTER):
            last = frames
        frames = frames.tb_next
    if last is not None:
        last.tb_next = None
    _shorten(error.__cause__, seen)
    _shorten(error.__context__, seen)


def _file_of(frame):
    return frame.tb_frame.f_code.co_filename


def _chosen(arguments):
    while arguments:
        option, *rest = arguments
        if option in ("-V", "--version"):
            print("Python", sys.version.split()[0])
            return
        if option in ("-u", "-E", "-s", "-S", "-B", "-I", "-P"):
            arguments = rest
        elif option in ("-W", "-X") and rest:
            if option == "-W":
                _warn(rest[0])
            arguments = rest[1:]
        elif option == "-c" and rest:
            _run_code(rest[0], rest[1:])
            return
        elif option == "-m" and rest:
            _run_module(rest[0], rest[1:])
            return
        elif option == "-" or not option.startswith("-"):
            _run_script(option, rest)
            return
        else:
            print(_USAGE, file=sys.stderr)
            raise SystemExit(2)
    _run_script("-", [])


def _warn(option):
    import warnings

    warnings._setoption(option)


def _run_code(code, arguments):
    sys.argv[:] = ["-c", *arguments]
    sys.path.insert(0, "")
    module = _main_module()
    exec(compile(code, "<string>", "exec", dont_inherit=True), module.__dict__)


def _run_module(name, arguments):
    import runpy

    sys.argv[:] = ["-m", *arguments]
    sys.path.insert(0, os.getcwd())
    _main_module()
    runpy._run_module_as_main(name)


def _run_script(path, arguments):
    sys.argv[:] = [path, *arguments]
    if path == "-":
        source, name = sys.stdin.buffer.read(), "<stdin>"
        sys.path.insert(0, "")
    else:
        name = path
        if os.path.isdir(path):
            return _run_folder(path)
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            print(
                f"python: can't open file {os.path.abspath(path)!r}: "
                f"[Errno {error.errno}] {error.strerror}",
                file=sys.stderr,
            )
            raise SystemExit(2) from None
        sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    module = _main_module()
    if path == "-":
        return _run(module, source, name)
    module.__file__ = path
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)


def _run_bundled(arguments):
    name, source = _bundled
    sys.argv[:] = [name, *arguments]
    module = _main_module()
    _run(module, source, name)


def _run(module, source, name):
    """Runs source that is no file, and keeps its lines for tracebacks."""
    text = importlib.util.decode_source(source)
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)


def _run_folder(path):
    """A folder with __main__.py."""
    import runpy

    sys.path.insert(0, path)
    _main_module()
    runpy._run_module_as_main("__main__", alter_argv=False)


def _main_module():
    module = types.ModuleType("__main__")
    module.__builtins__ = __builtins__
    sys.modules["__main__"] = module
    return module
