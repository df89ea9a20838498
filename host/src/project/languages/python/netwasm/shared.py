"""State that all instances of the service share, on all threads: rate limits, and
small values that expire. So neither needs `--isolation worker`.

    if not shared.take(f"login/{peer}", rate=1 / 60, burst=5):
        return Response("slow down", 429)

It survives a reload, and ends with the host's process; `--max-shared` bounds it.
Keys are text or other bytes, 256 at most. Times are in seconds, and a `ttl` of None
is for ever. Errors are those of sockets: `OSError` with `EINVAL` for what a key or
a number may not be, `EMFILE` if no value has room any more.
"""

from dataclasses import dataclass

from wit_world.imports import shared as _host

from ._errors import checked


@dataclass(frozen=True)
class Bucket:
    """A bucket of tokens after `take`: true if they were taken."""

    taken: bool
    left: int
    # Seconds until as many are there as were asked for; 0 if they are.
    wait: float

    def __bool__(self) -> bool:
        return self.taken


@dataclass(frozen=True)
class Value:
    """A value, and the number that each change of it makes another one."""

    data: bytes
    version: int


def take(key: str | bytes, rate: float, burst: int, count: int = 1) -> Bucket:
    """Takes tokens from the bucket of a key, or none if there are too few. It is
    full at first, holds `burst`, and gains `rate` a second."""
    made = checked(_host.take, _octets(key), float(rate), burst, count)
    return Bucket(made.taken, made.left, made.wait * 1e-9)


def get(key: str | bytes) -> Value | None:
    """Returns the value of a key, unless there is none or it has expired."""
    value = _host.get(_octets(key))
    return None if value is None else Value(bytes(value.data), value.version)


def set(key: str | bytes, data: str | bytes, ttl: float | None = None) -> int:
    """Sets a value of 64 KiB at most, and returns its version."""
    return checked(_host.set, _octets(key), _octets(data), _nanoseconds(ttl))


def compare_and_swap(
    key: str | bytes, version: int | None, data: str | bytes, ttl: float | None = None
) -> int | None:
    """Sets a value if the one that is there has this version; with None, if there is
    none. Returns the new version; None if another instance was faster."""
    return checked(
        _host.compare_and_swap, _octets(key), version, _octets(data), _nanoseconds(ttl)
    )


def add(key: str | bytes, more: int = 1, ttl: float | None = None) -> int:
    """Adds to a counter, and returns the sum. A new one begins at 0 and expires after
    `ttl`; that of one that is there stays."""
    return checked(_host.add, _octets(key), more, _nanoseconds(ttl))


def touch(key: str | bytes, ttl: float | None = None) -> bool:
    """Lets a value expire after `ttl` from now. Returns False if there is none."""
    return _host.touch(_octets(key), _nanoseconds(ttl))


def remove(key: str | bytes, version: int | None = None) -> bool:
    """Removes a value; with a version, if it has that one. Returns True if it did."""
    return _host.remove(_octets(key), version)


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else bytes(text)


def _nanoseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(int(seconds * 1e9), 0)
