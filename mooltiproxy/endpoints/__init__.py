"""The proxy's own endpoints, one file each."""
