"""Engines: the model servers that the proxy starts itself, when they are asked for, and stops when they are not."""
