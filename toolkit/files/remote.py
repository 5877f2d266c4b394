"""Paths of files: on this machine, or in an object store named by a URL (s3://BUCKET/STORE).

A local path is a plain `pathlib.Path`, so that local stores pay nothing for remote ones. A URL is a
universal-pathlib path over fsspec, with the same methods. It writes whole objects: an object is
complete or absent, without a rename or a sync. s3:// uses pyarrow's own client; other schemes need
their fsspec packages.
"""

import io
import os
import re
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from toolkit.errors import InputError, Unreachable

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
            f"{path} is in an object store, which needs the package universal-pathlib; type "
            "`pip install 'outvoted[objects]'`."
        ) from problem
    if path.lower().startswith("s3://"):
        _register_s3()
    try:
        remote = UPath(path)
        remote.fs  # noqa: B018  (fsspec looks its package up here)
    except (ImportError, ValueError) as problem:
        raise InputError(
            f"{path} cannot be reached ({problem}); name a local path, an s3:// URL, or install "
            "the package that fsspec needs for it."
        ) from problem
    return cast(Path, remote)


def is_local(path: Path) -> bool:
    """Whether it is on a file system of this machine."""
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
    """The reason of an OSError as a clause: pyarrow's have no `strerror`."""
    return problem.strerror or (str(problem).splitlines() or ["no reason given"])[0]


def must_be_local(path: Path, what: str) -> Path:
    """The path, if it is local. InputError: what it is for works on a file system only."""
    if is_local(path):
        return path
    raise InputError(
        f"{path} is not a folder on this machine, and {what} one; copy the store here first, "
        "and name the copy."
    )


def _key(path: Path) -> str:
    return str(cast(Any, path).path)


def _named(act: Callable[..., Any], path: str) -> Callable[..., Any]:
    """The same call, but a server that does not answer raises `Unreachable`.

    A missing file is a FileNotFoundError and a disk's errors have a number; an error without one
    comes from a server that did not answer, or not to the end. Calls that a file does not support
    are programming mistakes and stay as they are.
    """

    @wraps(act)
    def call(*given: Any, **options: Any) -> Any:
        try:
            return act(*given, **options)
        except OSError as problem:
            if problem.errno is not None or _misused(problem):
                raise
            where = path.removeprefix("s3://")
            raise Unreachable(
                f"s3://{where} cannot be reached ({_clause(problem)}); what was written before is "
                "complete. Check that the server answers and that the address, the keys and the "
                "region are right (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_DEFAULT_REGION), then "
                "run the same command again."
            ) from problem

    return call


def _misused(problem: OSError) -> bool:
    """Whether a file was read that is open for writing, or the like; pyarrow has no type for it."""
    return isinstance(problem, io.UnsupportedOperation) or "only valid on" in str(problem)


def _clause(problem: OSError) -> str:
    """What went wrong in the client's words, without what surrounds it."""
    text = why(problem)
    match = re.search(r"AWS Error \w+ during \w+ operation(?:: (?:curlCode: \d+, )?[^;]*)?", text)
    return match.group() if match else text


class _Stream:
    """A client's open file, whose calls raise `Unreachable` as above."""

    def __init__(self, stream: Any, path: str) -> None:
        self._stream, self._path = stream, path

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._stream, name)
        return _named(attribute, self._path) if callable(attribute) else attribute


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
        # The wrapper's own two expect paths that begin with a slash.
        _strip_protocol = AbstractFileSystem.__dict__["_strip_protocol"]
        _parent = AbstractFileSystem.__dict__["_parent"]

        def __init__(self, **options: Any) -> None:
            named = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
            endpoint = next((os.environ[name] for name in named if os.environ.get(name)), None)
            super().__init__(fs=S3FileSystem(endpoint_override=endpoint), **options)

        def exists(self, path: str, **_: Any) -> bool:
            return self._kind(path) is not None

        def isfile(self, path: str) -> bool:
            return self._kind(path) == "file"

        def _kind(self, path: str) -> str | None:
            # fsspec's own methods take a server that does not answer for a missing file.
            try:
                return str(self.info(path)["type"])
            except FileNotFoundError:
                return None

        def _open(self, path: str, *given: Any, **options: Any) -> Any:
            opened = _named(super()._open, path)(path, *given, **options)
            opened.stream = _Stream(opened.stream, path)
            return opened

    def named(name: str) -> Callable[..., Any]:
        inherited = getattr(ArrowFSWrapper, name)

        def method(self: Any, path: str, *given: Any, **options: Any) -> Any:
            return _named(inherited, path)(self, path, *given, **options)

        return wraps(inherited)(method)

    for name in ("info", "ls", "cp_file", "mv", "rm_file", "rm", "makedirs", "modified"):
        setattr(S3, name, named(name))
    fsspec.register_implementation("s3", S3, clobber=True)
