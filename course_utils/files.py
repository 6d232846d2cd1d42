"""Files that are written whole or not at all, and words on a stream that cannot show every character."""

import codecs
import contextlib
import errno
import io
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

# What stands for characters of our messages where a stream cannot show them (Korean, Western or ASCII consoles, redirected).
_PLAIN = {"✓": "+", "✗": "x", "…": "...", "≥": ">=", "≤": "<=", "→": "->", "−": "-", "–": "-", "×": "x", "·": "*", "±": "+-"}
_SPELLED_OUT = "course_utils.spelled_out"


@contextlib.contextmanager
def whole(path: str | Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing bytes; a reader finds the old file or the new one, never half of one.

    It is written under a short temporary name in the same folder, which is made if it is missing, and renamed at the end.

    Args:
        path: the file. Its name may be as long as the file system allows.
        private: only this user may read it.

    Raises:
        OSError: it cannot be written (no space left, no permission, a name that is too long); what ``path`` held before is
            still there. This error is raised even where a library that wrote to the file raised another one in its place.

    >>> with whole(Path(tempfile.mkdtemp()) / "new" / "a.txt") as file:
    ...     _ = file.write(b"text")
    """
    path = Path(path)
    _make_folder(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    mode = 0o600 if private else 0o666
    try:
        raw = open(temporary, "xb", buffering=0, opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        file = _Remembering(raw)
        try:
            with contextlib.closing(file):
                yield file
                file.flush()
                os.fsync(file.fileno())
        except Exception as error:
            if file.error is None or file.error is error:
                raise
            raise OSError(file.error.errno, file.error.strerror, str(path)) from error
        finally:
            raw.close()  # closing the buffer fails, and leaves it open, when what it holds finds no space
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, private: bool = False) -> None:
    """Write a text file whole or not at all: UTF-8, lines that end in a newline only. Raises as `whole`."""
    with whole(path, private=private) as file:
        file.write(text.encode("utf-8"))


def need_writable(path: str | Path) -> None:
    """Find out before long work whether `whole` could write its result; makes missing folders, leaves no file.

    Raises:
        OSError: it could not, for the reason in the message.
    """
    path = Path(path)
    _make_folder(path)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def say(text: str) -> None:
    """Print a line; characters that standard output cannot show are spelled out, such as ≥ by ``>=``."""
    print(shown(text))


def shown(text: str) -> str:
    """A text as `say` prints it; ASCII alone where Python does not know the encoding of standard output."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        codecs.lookup(encoding)
    except (LookupError, TypeError):
        encoding = "ascii"
    return text.encode(encoding, _SPELLED_OUT).decode(encoding)


def spell_out() -> None:
    """Make the whole of standard output forgiving as `say` is; for commands, which own it, before their first word.

    Standard error is forgiving from the start.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors=_SPELLED_OUT)


def _spelled_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in wrong), error.end


codecs.register_error(_SPELLED_OUT, _spelled_out)


def _make_folder(path: Path) -> None:
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.lstat()  # refuses a name that is too long


class _Remembering(io.BufferedWriter):
    """Remembers why a write failed: torch and others raise an error of their own, without the reason."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise
