"""Readers for the file formats of public image sets, one file per family.

Each takes paths of files whose checksum has been compared, and returns images uint8 (n, c, h, w) and labels int64 (n,).
"""
