"""The program: `fz-iproute`, or `python -m fz_iproute`."""

import os
import sys
from contextlib import suppress

from fz_iproute.cli import main


def run() -> None:
    """Run the command line and exit with its code."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # the stream may be closed
            stream.flush()
    # Unlike sys.exit(), this does not free every object first, which would take a sixth of a short run.
    os._exit(code)


if __name__ == "__main__":
    run()
