"""The store on disk: layout, atomic parts, DuckDB views, label sets, verdicts. The only SQL.

The public names:

    from toolkit.store import create_store, open_store, connect

"""

from toolkit.store.connection import connect
from toolkit.store.layout import FORMAT_VERSION, Store, create_store, open_or_create, open_store

__all__ = ["FORMAT_VERSION", "Store", "connect", "create_store", "open_or_create", "open_store"]
