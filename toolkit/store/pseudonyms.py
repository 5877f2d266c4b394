"""Annotators' names, on their way in or out: keyed pseudonyms, the key never leaves the store."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import sync_folder
from toolkit.files.remote import is_local, put
from toolkit.schema import SOURCE_PREFIX
from toolkit.store.layout import Store
from toolkit.store.locks import turn

KEY_FILE = "pseudonyms.key"
_KEY_BYTES = 32


def pseudonym(key: bytes, annotator: str) -> int:
    """63 bits of HMAC-SHA256: a whole number, as user_id is one; the same for the same key."""
    digest = hmac.new(key, annotator.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def store_key(store: Store) -> bytes:
    """The store's key, made on first use and readable by its owner only."""
    path = store.folder(KEY_FILE)
    if not is_local(path):
        with turn(store):  # there is no link that spares another process's key
            if not path.exists():
                put(path, secrets.token_bytes(_KEY_BYTES))
    elif not path.exists():
        _make(path)
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise StoreError(
            f"{path} is damaged; restore it from a copy, or delete it for new pseudonyms."
        )
    return key


def _make(path: Path) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(secrets.token_bytes(_KEY_BYTES))
        stream.flush()
        os.fsync(stream.fileno())
    try:
        os.link(aside, path)  # unlike a rename it never replaces another process's key
    except FileExistsError:
        pass
    finally:
        aside.unlink()
    sync_folder(path.parent)


def renamer(store: Store) -> Callable[[str], int]:
    """annotator to pseudonym under the store's key; each name is hashed once."""
    key = store_key(store)
    return lru_cache(maxsize=1 << 20)(lambda annotator: pseudonym(key, annotator))


def namer(store: Store, annotators: Iterable[str | None], *, keyed: bool) -> Callable[[str], int]:
    """annotator to user_id. InputError where a name that is no number should leave as it is."""
    if keyed:
        return renamer(store)
    for annotator in annotators:
        if annotator is not None and not annotator.lstrip("-").isdecimal():
            raise InputError(
                f"An annotator is named {annotator!r}, and user_id holds whole numbers; leave out "
                "--keep user_id."
            )
    return int


def renamed(
    votes: pa.Table, pairs: pa.Table, rename: Callable[[str], int], personal: tuple[str, ...]
) -> dict[str, pa.Table]:
    """Both tables with every annotator replaced; `personal` are source columns that name one."""
    votes = _replaced(votes, "annotator", rename, pa.string())
    for name in personal:
        if SOURCE_PREFIX + name in pairs.column_names:
            pairs = _replaced(pairs, SOURCE_PREFIX + name, rename, pa.int64())
    return {"votes": votes, "pairs": pairs}


def _replaced(
    table: pa.Table, name: str, rename: Callable[[str], int], kind: pa.DataType
) -> pa.Table:
    renamed = [None if value is None else rename(str(value)) for value in table[name].to_pylist()]
    field = table.schema.field(name).with_type(kind)
    place = table.schema.get_field_index(name)
    return table.set_column(place, field, pa.array(renamed, pa.int64()).cast(kind))
