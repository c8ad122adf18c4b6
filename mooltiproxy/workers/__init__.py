"""Several processes that serve one port: a supervisor, and the workers that it starts and starts again.

Nothing of this is imported where one process serves alone.
"""
