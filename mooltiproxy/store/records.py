"""What a store keeps beside windows: what was used by whom, and what is known of addresses."""

from datetime import date
from typing import NamedTuple


class Used(NamedTuple):
    """What requests have used: whose they were, of which model, how many; `cost` in the money of the prices."""

    key: str
    model: str
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


class Usage(NamedTuple):
    """What was used on one day (UTC)."""

    day: date
    used: Used
