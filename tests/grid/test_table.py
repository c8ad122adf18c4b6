from .table import FILE, written


def test_the_document_shows_what_the_grid_finds() -> None:
    assert FILE.read_text(encoding="utf-8") == written(), "out of date: run python -m tests.grid"
