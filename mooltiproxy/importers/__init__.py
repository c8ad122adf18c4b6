"""Configurations of other programs, turned into ours: a file for each, which recognises its data and fills a Draft."""
