"""The mapping engine: the neutral form, what a dialect is, stream framing, and translation between two of them."""
