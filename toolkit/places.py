"""Where files lie: a folder of this machine, or an object store named by a URL (s3://BUCKET/STORE).

A local path is a `pathlib.Path` and nothing else, so that nothing is paid for what lies elsewhere.
A URL is a path of universal-pathlib over fsspec, which answers to the same words. Its writes put
whole objects: one is complete or absent, and needs neither a rename nor a sync. s3:// is pyarrow's
own client; other schemes are those of the fsspec packages that are installed.
"""

import os
import re
from functools import cache
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from toolkit.errors import InputError

Readable: TypeAlias = "Path | IO[bytes]"
"""What pyarrow reads a file through."""

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def place(path: str | Path) -> Path:
    """The path of a file or folder, local or not. InputError where its scheme has no package."""
    if not isinstance(path, str) or not _URL.match(path):
        return path if not isinstance(path, str) else Path(path)
    try:
        from upath import UPath
    except ImportError as problem:
        raise InputError(
            f"{path} lies in an object store, which needs the package universal-pathlib; type "
            "`pip install 'outvoted[objects]'`."
        ) from problem
    if path.lower().startswith("s3://"):
        _register_s3()
    try:
        found = UPath(path)
        found.fs  # noqa: B018  (fsspec looks its package up here)
    except (ImportError, ValueError) as problem:
        raise InputError(
            f"{path} cannot be reached ({problem}); name a local path, an s3:// URL, or install "
            "the package that fsspec wants for it."
        ) from problem
    return cast(Path, found)


def is_local(path: Path) -> bool:
    """Whether it lies on a file system of this machine."""
    return isinstance(path, Path)


def readable(path: Path) -> Readable:
    """The path itself where it is local, else the opened object."""
    return path if is_local(path) else path.open("rb")


def put(path: Path, data: bytes) -> None:
    """Write a whole object, replacing what is there. OSError leaves what was there."""
    path.write_bytes(data)


def moved(path: Path, target: Path) -> None:
    """Give an object another name."""
    filesystem_of(path).mv(_key(path), _key(target))


def filesystem_of(path: Path) -> Any:
    """The fsspec file system of a path that is not local."""
    return cast(Any, path).fs


def why(problem: OSError) -> str:
    """What an OSError says, in a clause: pyarrow's have no `strerror`."""
    return problem.strerror or (str(problem).splitlines() or ["no reason given"])[0]


def must_be_local(path: Path, what: str) -> Path:
    """The path, if it is local. InputError: what it is for works on a file system only."""
    if is_local(path):
        return path
    raise InputError(
        f"{path} is no folder of this machine, and {what} one; copy the store here first, and "
        "name the copy."
    )


def _key(path: Path) -> str:
    return str(cast(Any, path).path)


@cache
def _register_s3() -> None:
    """Let fsspec, and so everything here, reach s3:// through pyarrow's client.

    Keys, region and endpoint are those of AWS's environment variables and files.
    """
    import fsspec
    from fsspec.implementations.arrow import ArrowFSWrapper
    from fsspec.spec import AbstractFileSystem
    from pyarrow.fs import S3FileSystem

    class S3(ArrowFSWrapper):  # type: ignore[misc]
        protocol = ("s3",)
        root_marker = ""
        # The wrapper's own two are made for paths that begin with a sign of root.
        _strip_protocol = AbstractFileSystem.__dict__["_strip_protocol"]
        _parent = AbstractFileSystem.__dict__["_parent"]

        def __init__(self, **options: Any) -> None:
            named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
            endpoint = next((os.environ[name] for name in named if os.environ.get(name)), None)
            super().__init__(fs=S3FileSystem(endpoint_override=endpoint), **options)

    fsspec.register_implementation("s3", S3, clobber=True)
