"""The interpreter as a component: what componentize-py is given."""

from netwasm_python import install
from netwasm_python.program import Run  # noqa: F401

install.finish()
