"""Files, on this machine or in an object store: whole or absent, and locked while they change."""
