"""Formats and objects as arrays, tables and streams: what the sources open their files with."""
