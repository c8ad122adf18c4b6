"""Where limits, usage and bans are counted: in this process, in a file, or at a server that several machines share.

`protocol.py` is all that the rest of the proxy knows of it.
"""

from mooltiproxy.store.memory import MemoryStore
from mooltiproxy.store.protocol import Store
from mooltiproxy.store.records import Usage, Used
from mooltiproxy.store.windows import Level, Verdict, Wants, Window

__all__ = ["Level", "MemoryStore", "Store", "Usage", "Used", "Verdict", "Wants", "Window"]
