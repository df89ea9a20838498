"""Keeps modules in memory. The file system that a component is built on is gone
when it runs, so what programs may import is taken along: as code, since compiling
takes twenty times as long as loading, and as source, so that tracebacks show
lines. Both are compressed.
"""

import errno
import importlib.abc
import importlib.machinery
import importlib.util
import io
import marshal
import os
import sys
import zlib

# Folders of the standard library that nobody can use in a component.
_LEFT_OUT = {
    "__phello__",
    "__pycache__",
    "config-3.14-wasm32-wasi",
    "curses",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pip",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "venv",
}
# Data of packages that is kept beside the modules, by the ends of names; all
# others but these are kept.
_NO_DATA = (".py", ".pyc", ".pyi", ".so", ".pyx", ".pxd", ".c", ".h", ".a", ".exe")


# Size of a block of memory that holds what is kept, in bytes.
_BLOCK = 256 << 10


class _Blocks:
    """Keeps data in blocks of memory, apart from objects: `heap.py` says why."""

    def __init__(self):
        self._block, self._used = b"", 0

    def put(self, data):
        """Keeps data compressed, and returns its place."""
        compressed = zlib.compress(data, 9)
        size = len(compressed)
        if size > len(self._block) - self._used:
            self._block, self._used = bytearray(max(size, _BLOCK)), 0
        start = self._used
        self._used += size
        self._block[start : self._used] = compressed
        return self._block, start, self._used


def _taken(place):
    """Returns the data at a place."""
    block, start, end = place
    return zlib.decompress(memoryview(block)[start:end])


class Kept(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads what was kept."""

    def __init__(self):
        # By a module's name: true for a package, its path, the place of its source,
        # and that of its code or None.
        self._modules = {}
        # By a path: the place of what the file holds.
        self._files = {}
        self._blocks = _Blocks()

    def keep(self, root, data=False):
        """Keeps the modules below a folder, and the data of its packages."""
        for folder, folders, files in os.walk(root):
            within = os.path.relpath(folder, root)
            metadata = within.endswith((".dist-info", ".egg-info"))
            folders[:] = sorted(
                name
                for name in folders
                if name not in _LEFT_OUT and (data or name.isidentifier())
            )
            parts = [] if within == "." else within.split(os.sep)
            for name in sorted(files):
                path = os.path.join(folder, name)
                stem, end = os.path.splitext(name)
                if end == ".py" and not metadata:
                    self._keep_module(parts, stem, path)
                elif data and parts and not name.endswith(_NO_DATA):
                    with open(path, "rb") as file:
                        self._files[path] = self._blocks.put(file.read())

    def _keep_module(self, parts, stem, path):
        package = stem == "__init__"
        name = ".".join(parts if package else [*parts, stem])
        if name and name not in self._modules:
            with open(path, "rb") as file:
                source = file.read()
            try:
                code = marshal.dumps(compile(source, path, "exec", dont_inherit=True))
            except (SyntaxError, ValueError):
                code = None  # of another Python: importing it will say so
            self._modules[name] = (
                package,
                path,
                self._blocks.put(source),
                code and self._blocks.put(code),
            )

    def __len__(self):
        return len(self._modules)

    # Finding and loading

    def find_spec(self, fullname, path=None, target=None):
        found = self._modules.get(fullname)
        if found is None:
            return self._namespace(fullname)
        package, file = found[:2]
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=file, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(file)]
        return spec

    def _namespace(self, fullname):
        """A package without __init__.py (PEP 420)."""
        start = fullname + "."
        for name, (_, file, *_) in self._modules.items():
            if name.startswith(start):
                spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
                depth = name.count(".") - fullname.count(".")
                for _ in range(depth + (os.path.basename(file) == "__init__.py")):
                    file = os.path.dirname(file)
                spec.submodule_search_locations = [file]
                return spec
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__spec__.name), module.__dict__)

    def is_package(self, fullname):
        return self._found(fullname)[0]

    def get_filename(self, fullname):
        return self._found(fullname)[1]

    def get_source(self, fullname):
        return importlib.util.decode_source(_taken(self._found(fullname)[2]))

    def get_code(self, fullname):
        _, path, source, code = self._found(fullname)
        if code is None:
            return compile(_taken(source), path, "exec", dont_inherit=True)
        return marshal.loads(_taken(code))

    def _found(self, fullname):
        try:
            return self._modules[fullname]
        except KeyError:
            raise ImportError(f"no module named {fullname!r} was kept", name=fullname) from None

    # Data

    def get_data(self, path):
        """pkgutil.get_data()"""
        if path in self._files:
            return _taken(self._files[path])
        for _, file, source, _ in self._modules.values():
            if file == path:
                return _taken(source)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def get_resource_reader(self, fullname):
        package, path = self._found(fullname)[:2]
        return _Resources(self, os.path.dirname(path)) if package else None

    def iter_modules(self, prefix=""):
        """Names of the modules below a package's folder, for pkgutil."""
        return [
            (prefix + name, package)
            for name, (package, *_) in sorted(self._modules.items())
            if "." not in name
        ]

    def find_distributions(self, context):
        """importlib.metadata: versions and entry points of packages."""
        folders = {
            os.path.dirname(path)
            for path in self._files
            if os.path.dirname(path).endswith((".dist-info", ".egg-info"))
        }
        from importlib.metadata import Prepared

        wanted = Prepared(context.name)
        for folder in sorted(folders):
            found = os.path.basename(folder).rpartition(".")[0].split("-")[0]
            if not wanted.normalized or Prepared.normalize(found) == wanted.normalized:
                yield _distribution(self, folder)


def _distribution(kept, folder):
    from importlib.metadata import Distribution

    class Kept(Distribution):
        def read_text(self, filename):
            try:
                return kept.get_data(os.path.join(folder, filename)).decode("utf-8")
            except FileNotFoundError:
                return None

        def locate_file(self, path):
            return os.path.join(os.path.dirname(folder), path)

    return Kept()


class _Resources:
    """importlib.resources, of a package that was kept."""

    def __init__(self, kept, folder):
        self._kept, self._folder = kept, folder

    def files(self):
        return _Resource(self._kept, self._folder)

    def open_resource(self, resource):
        return io.BytesIO(self._kept.get_data(os.path.join(self._folder, resource)))

    def resource_path(self, resource):
        raise FileNotFoundError(resource)

    def is_resource(self, path):
        return os.path.join(self._folder, path) in self._kept._files

    def contents(self):
        return [entry.name for entry in self.files().iterdir()]


class _Resource:
    """A file or a folder that was kept (importlib.resources.abc.Traversable)."""

    def __init__(self, kept, path):
        self._kept, self._path = kept, path

    @property
    def name(self):
        return os.path.basename(self._path)

    def __str__(self):
        return self._path

    def iterdir(self):
        start = self._path + os.sep
        names = {
            path[len(start) :].split(os.sep)[0]
            for path in [*self._kept._files, *(m[1] for m in self._kept._modules.values())]
            if path.startswith(start)
        }
        return [_Resource(self._kept, start + name) for name in sorted(names)]

    def is_file(self):
        try:
            self.read_bytes()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self):
        return bool(self.iterdir())

    def joinpath(self, *parts):
        return _Resource(self._kept, os.path.normpath(os.path.join(self._path, *map(str, parts))))

    __truediv__ = joinpath

    def read_bytes(self):
        return self._kept.get_data(self._path)

    def read_text(self, encoding=None, errors=None):
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode="r", *args, **kwargs):
        file = io.BytesIO(self.read_bytes())
        return file if "b" in mode else io.TextIOWrapper(file, *args, **kwargs)


kept = Kept()


def install():
    """Takes along what can be imported now, and finds it from then on. The
    folders of the build end here: nothing is looked for there any more, not even
    in those of packages."""
    library = os.path.dirname(os.__file__)
    for root in list(sys.path):
        if os.path.isdir(root):
            kept.keep(root, data=root != library)
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        # Tracebacks ask a module's loader for the source.
        if name in kept._modules and spec is not None:
            spec.loader = module.__loader__ = kept
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder), kept)


def finish():
    """Called when all is imported: modules in a program's own folders come first."""
    sys.meta_path.remove(kept)
    sys.meta_path.append(kept)
