"""One normal form of students' names, for all places where two sources of names meet.

Files, folders, class lists, times and the gradebook spell one name in many ways: composed or decomposed Hangul, full-width
letters, capitals, blanks. `fold` is what is compared, `tidy` is what is shown, `key` names a folder and a row of the gradebook.
"""

import hashlib
import os
import re
import unicodedata

KEY_LETTERS = 120  # nbgrader keeps 128
KEY_BYTES = 240  # file systems take 255 for one name; Hangul takes three a letter
JOINERS = "\u200c\u200d"  # they have no width, and belong to the spelling of some languages
FILLERS = "\u115f\u1160\u3164\uffa0"  # letters of Hangul that look like nothing
ALIKE = str.maketrans(dict.fromkeys("‘’ʼ`´", "'") | dict.fromkeys("‐‑–—−", "-"))
# What browsers, desktops and notebook editors add to the name of a copy. Longer numbers are students'.
COPY = re.compile(
    r"(.+?)(?:[ _]?\(\d{1,2}\)|-copy\d{0,2}|(?: -)? copy(?: \d{1,2})?|(?: -)? ?복사본(?: ?\(\d{1,2}\))?|의 사본"
    r"|-checkpoint|\.nbconvert)+|copy of (.+)",
    re.IGNORECASE,
)


def tidy(name: str) -> str:
    """A name as it is shown: composed letters, single blanks between words, nothing that cannot be seen."""
    composed = unicodedata.normalize("NFC", _decoded(name))
    seen = (letter for letter in composed if unicodedata.category(letter) != "Cf" or letter in JOINERS)
    return " ".join("".join(seen).split())


def fold(name: str) -> str:
    """What is equal for two spellings of one name: no difference of width, case, composition, blanks or kind of hyphen."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", tidy(name)).casefold())
    kept = (letter for letter in folded if unicodedata.category(letter) != "Cf" and letter not in FILLERS)
    return " ".join("".join(kept).translate(ALIKE).split())


def key(name: str) -> str:
    """A name that can be a folder and a key of the gradebook, and is text in pages: formgrader takes it for HTML.

    A name that is too long is cut, and ends in a digest of all of it, so that two of them stay two.
    """
    shown = tidy(name)
    made = "".join(letter if letter.isprintable() and letter not in '/\\<>"&' else "_" for letter in shown)
    if len(made) <= KEY_LETTERS and len(made.encode()) <= KEY_BYTES:
        return made
    end = "~" + hashlib.sha256(fold(name).encode("utf-8", "replace")).hexdigest()[:8]
    start = made[: KEY_LETTERS - len(end)].encode()[: KEY_BYTES - len(end)]
    return start.decode("utf-8", "ignore").rstrip() + end


def words(name: str) -> list[str]:
    """Words and numbers of a name, folded."""
    return re.findall(r"[^\W_]+", fold(name))


def turned(name: str) -> tuple[str, ...]:
    """What is equal for `Kim, Minji` and `Minji Kim`: the words of a name in one order; empty for a single word."""
    found = tuple(sorted(words(name)))
    return found if len(found) > 1 else ()


def shortened(labels: list[str]) -> str:
    """Up to ten names, and how many more there are."""
    more = [f"and {len(labels) - 10} more"] if len(labels) > 10 else []
    return ", ".join([*labels[:10], *more])


def original(name: str) -> str | None:
    """Name of the file of which this one is a copy, going by its name; None if it does not look like a copy."""
    found = COPY.fullmatch(tidy(name))
    return next(filter(None, found.groups())) if found else None


def _decoded(name: str) -> str:
    """A file's name; one that is not UTF-8 was made where Korean is cp949."""
    try:
        name.encode()
    except UnicodeEncodeError:
        content = name.encode("utf-8", "surrogateescape") if _escaped(name) else name.encode("utf-8", "replace")
        for encoding in ("utf-8", "cp949"):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError:
                continue
        return content.decode("utf-8", "replace")
    return name


def _escaped(name: str) -> bool:
    """Whether all halves of characters in a name are bytes that Python could not decode."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True
