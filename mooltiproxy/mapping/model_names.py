"""What may stand for `{model}` in a path."""

_PIECE = r"\.*[A-Za-z0-9_:@+-][A-Za-z0-9._:@+-]*"

MODEL_NAME = f"{_PIECE}(?:/{_PIECE})*"
"""A model's name as a regular expression: it may hold slashes, but no piece that is empty or all dots, for these would
lead to another path."""
