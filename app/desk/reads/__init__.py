"""Cached reads of the pages beside the Queue, one page a file; no widgets and no SQL."""
