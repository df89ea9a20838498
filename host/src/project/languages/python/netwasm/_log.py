"""The standard library's `logging` in the host's log."""

import logging

from wit_world.imports import log

_LEVELS = [
    (logging.ERROR, log.Level.ERROR),
    (logging.WARNING, log.Level.WARN),
    (logging.INFO, log.Level.INFO),
    (logging.DEBUG, log.Level.DEBUG),
]


class LogHandler(logging.Handler):
    """Writes records as entries with their level, one for each line."""

    def emit(self, record: logging.LogRecord) -> None:
        levels = (level for number, level in _LEVELS if record.levelno >= number)
        level = next(levels, log.Level.TRACE)
        for line in self.format(record).splitlines():
            log.log(level, line)


logging.basicConfig(handlers=[LogHandler()], level=logging.INFO, format="%(message)s")
