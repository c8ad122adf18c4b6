"""Writes docs/grid.md: `python -m tests.grid`."""

from .table import FILE, written

FILE.write_text(written(), encoding="utf-8")
