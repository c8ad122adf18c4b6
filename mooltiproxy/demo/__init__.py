"""The demonstration: a toy model server that speaks TGI's HTTP API, and the command that puts the proxy before it."""
