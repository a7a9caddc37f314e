"""The program: `fz-iproute`, or `python -m fz_iproute`."""

import os
import sys
from contextlib import suppress

from fz_iproute.cli import main


def run() -> None:
    """Run the command line, and end."""
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # closed by whoever has started us
            stream.flush()
    # Python would take itself apart object by object, a sixth of a short run; the kernel takes it all at once.
    os._exit(code)


if __name__ == "__main__":
    run()
