"""What models there are behind the proxy: those of the file, and those that targets list."""
