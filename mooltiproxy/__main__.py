"""`python -m mooltiproxy` is the command `mooltiproxy`."""

import sys

from mooltiproxy.cli import main

sys.exit(main())
