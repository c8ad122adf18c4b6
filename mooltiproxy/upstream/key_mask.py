"""Takes a target's key out of what it says: some quote the key that they refuse."""

SHORTEST = 8
"""Characters of a key; a shorter one may be any word."""


class KeyMask:
    """Puts as many asterisks in the place of a key, wherever the pieces of a text are cut."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._first = key[:1]
        self._rest = b""

    @classmethod
    def of(cls, key: str | None) -> "KeyMask | None":
        """The mask of a target's key; None where there is nothing to mask."""
        return cls(key.encode()) if key is not None and len(key) >= SHORTEST else None

    def whole(self, text: bytes) -> bytes:
        """A whole text without the key."""
        return text.replace(self._key, b"*" * len(self._key))

    def feed(self, piece: bytes) -> bytes:
        """The next piece without the key; what may be the beginning of one at its end comes with the next."""
        text = self.whole(self._rest + piece)
        at = text.find(self._first, max(0, len(text) - len(self._key) + 1))
        while at >= 0 and not self._key.startswith(text[at:]):
            at = text.find(self._first, at + 1)
        self._rest = text[at:] if at >= 0 else b""
        return text[:at] if at >= 0 else text

    def end(self) -> bytes:
        """What was held back: it is no key."""
        rest, self._rest = self._rest, b""
        return rest
