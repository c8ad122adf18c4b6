"""Point any LLM client at any LLM server."""

__version__ = "0.1.0"
