"""Cached reads for the pages: no widgets and no SQL."""
