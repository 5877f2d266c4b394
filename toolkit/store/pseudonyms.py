"""Names on their way in or out: keyed pseudonyms of annotators, keyed ids of pairs.

A pair_id is a hash over its parts, the annotator among them, so a row that leaves with it lets
anybody guess who voted. What leaves a store (exports, reports, training dynamics) therefore names
pairs by a second hash under the store's key. The key never leaves. Whatever reads a pair_id from
outside (votes, flips, the desk) takes either name.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Container, Iterable
from contextlib import nullcontext
from functools import lru_cache

import pyarrow as pa

from toolkit.errors import InputError, StoreError
from toolkit.files.atomic import write_new
from toolkit.files.remote import is_local
from toolkit.ids import make_pair_id, short_hash
from toolkit.schema import SOURCE_PREFIX
from toolkit.store.connection import read_pairs
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
    if not path.exists():
        alone = nullcontext() if is_local(path) else turn(store)
        with alone:
            made = secrets.token_bytes(_KEY_BYTES)
            write_new(path, made + _checksum(made), mode=0o600)
    content = path.read_bytes()
    key, checksum = content[:_KEY_BYTES], content[_KEY_BYTES:]
    if len(key) != _KEY_BYTES or checksum not in (b"", _checksum(key)):  # none: an earlier version
        raise StoreError(
            f"{path} is damaged; restore it from a copy, or delete it for new pseudonyms."
        )
    return key


def _checksum(key: bytes) -> bytes:
    """So that a changed bit does not give everybody another pseudonym."""
    return hashlib.sha256(key).digest()[:4]


def renamer(store: Store) -> Callable[[str], int]:
    """annotator to pseudonym under the store's key; each name is hashed once."""
    key = store_key(store)
    return lru_cache(maxsize=1 << 20)(lambda annotator: pseudonym(key, annotator))


def exported_ids(store: Store) -> Callable[[Iterable[str]], list[str]]:
    """pair_ids to the names under which pairs leave: the same in every export of the store."""
    key = store_key(store)
    return lambda names: [short_hash("exported", name, key=key) for name in names]


class PairIds:
    """Makes the pair_ids of a source's rows."""

    def __init__(self, store: Store, source: str, rename: Callable[[str], int] | None) -> None:
        """`rename`: the pseudonyms that are stored instead of names, if they are."""
        self._source, self._renames = source, rename is not None
        self._rename = rename or (renamer(store) if has_key(store) else None)

    def make(
        self,
        prompt: str | None,
        image_0: str,
        image_1: str,
        distinguishing: tuple[str, ...],
        annotator: str | None,
        have: Container[str],
    ) -> str:
        """The id of a row. Where pseudonyms are stored, the annotator's enters it, not the name;
        a pair that is in `have` by either keeps the id it has there."""
        shown = (prompt or "", image_0, image_1)
        plain = make_pair_id(self._source, *shown, *distinguishing)
        if self._rename is None or annotator not in distinguishing:
            return plain
        pseudonym = str(self._rename(annotator))
        parts = (pseudonym if part == annotator else part for part in distinguishing)
        keyed = make_pair_id(self._source, *shown, *parts)
        first, second = (keyed, plain) if self._renames else (plain, keyed)
        return second if second in have and first not in have else first


def with_exported_names(store: Store, table: pa.Table) -> pa.Table:
    """The table with its `pair_id` and `annotator`, where it has them, as they leave the store."""
    makers = {"pair_id": exported_ids, "annotator": _pseudonyms}
    for name in makers.keys() & set(table.column_names):
        values = pa.array(makers[name](store)(table[name].to_pylist()), pa.string())
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return table


def _pseudonyms(store: Store) -> Callable[[Iterable[str | None]], list[str | None]]:
    rename = renamer(store)
    return lambda names: [None if name is None else str(rename(name)) for name in names]


def own_ids(store: Store, names: Iterable[str]) -> dict[str, str]:
    """Name -> pair_id in the store, for names that are either; names of no pair are left out."""
    known = pair_names(store)
    return {name: known[name] for name in names if name in known}


def pair_names(store: Store) -> dict[str, str]:
    """Every name of a pair, its own and its exported one -> pair_id."""
    own = read_pairs(store, ["pair_id"])["pair_id"].to_pylist()
    names = dict(zip(own, own, strict=True))
    exported = exported_ids(store)(own) if has_key(store) else ()
    return dict(zip(exported, own, strict=False)) | names


def has_key(store: Store) -> bool:
    """Whether anything was ever renamed under the store's key."""
    return store.folder(KEY_FILE).exists()


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
