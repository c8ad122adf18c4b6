"""The configuration file: read with line numbers, validated in one run, turned into frozen dataclasses."""
