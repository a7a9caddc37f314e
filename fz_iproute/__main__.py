"""`python -m fz_iproute` is `fz-iproute`."""

import sys

from fz_iproute.cli import main

sys.exit(main())
