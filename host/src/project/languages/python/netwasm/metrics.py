"""Counts of the handler's own, beside the host's in `/metrics` of `--admin`.

    LINES = metrics.Counter("lines", "Lines that clients sent")
    LINES.add()

is `netwasm_guest_lines_total` there. All instances of the service count together.
Labels, as `Counter("lines", "...", kind="empty")`, are for what has few values: no
series is ever removed. A metric is opened when it is first used; one that the host
refuses counts nothing, and the log says why.
"""

import logging
from collections.abc import Sequence

from wit_world.imports import metrics as _host

from ._errors import checked


class _Metric:
    def __init__(self, name: str, help: str = "", **labels: str) -> None:
        self._name, self._help = name, help
        self._labels = [_host.Label(label, str(value)) for label, value in labels.items()]
        self._number = None
        self._refused = False

    def _opened(self):
        """The host's number, which belongs to this instance."""
        if self._number is None and not self._refused:
            try:
                self._number = self._open()
            except OSError as error:
                self._refused = True
                logging.warning("the metric %s counts nothing: %s", self._name, error)
        return self._number


class Counter(_Metric):
    """A number that only grows."""

    def _open(self):
        return checked(_host.counter, self._name, self._help, self._labels)

    def add(self, more: int = 1) -> None:
        if (number := self._opened()) is not None:
            _host.add(number, more)


class Gauge(_Metric):
    """A number that goes up and down; 0 at first."""

    def _open(self):
        return checked(_host.gauge, self._name, self._help, self._labels)

    def set(self, value: float) -> None:
        if (number := self._opened()) is not None:
            _host.set(number, float(value))

    def change(self, by: float) -> None:
        if (number := self._opened()) is not None:
            _host.change(number, float(by))


class Histogram(_Metric):
    """Numbers of observed values, by size. `bounds` are 1 to 32 numbers, each larger
    than the one before."""

    def __init__(self, name: str, bounds: Sequence[float], help: str = "", **labels: str) -> None:
        super().__init__(name, help, **labels)
        self._bounds = [float(bound) for bound in bounds]

    def _open(self):
        return checked(_host.histogram, self._name, self._help, self._bounds, self._labels)

    def observe(self, value: float) -> None:
        if (number := self._opened()) is not None:
            _host.observe(number, float(value))
