"""`python -m mooltiproxy.demo`: the toy server alone."""

import sys

from mooltiproxy.demo.toy_server import main

sys.exit(main())
