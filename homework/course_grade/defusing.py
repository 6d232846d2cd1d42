"""What a student wrote or printed, without what could act on the page that shows it: HTML, scripts, links to them.

`prose` does it for Markdown, `defuse` for outputs, `pictures_of` for attachments, as far as an `Allowance` goes.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

PROSE_LIMIT = 20_000  # characters of one cell of text; to render some texts takes the square of their length
PICTURE_TYPES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}

# TeX commands that make links, styles, HTML or other commands in MathJax.
TEX = re.compile(
    r"\\(href|url|style|class|cssId|unicode|require|html\w*|data|bbox|mmlToken|enclose|[bx]?cancel(to)?"
    r"|(g|re)?(def|let)|(re)?new(command|environment)|csname)\b",
    re.IGNORECASE,
)
# Whatever stands between the word and its colon, Markdown may take away.
SCRIPT = re.compile(r"(java|vb)(?=script)", re.IGNORECASE)
ENTITY = re.compile(r"&(?=#|\w+[;#])")
TAG = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
PICTURE_ELSEWHERE = re.compile(r"!\[(?![^\[\]]*\]\(attachment:)")
FENCE = re.compile(r"^([ \t>*+\-.)0-9]*)(`{3,}|~{3,})[^`\n]*$", re.MULTILINE)
CONTROL = re.compile(r"\x1b(\[[0-9;?]{0,20}[@-~])?")


def prose(source: str) -> str:
    """Markdown that looks the same, without HTML, links to scripts, TeX that makes either, and pictures from elsewhere.

    It is cut after `PROSE_LIMIT` characters, and code in it loses its colours: a language named here would choose among
    hundreds of parsers, some of which some text keeps busy for hours. A character of no width keeps tags and entities
    from being any, in code as in text. A picture from elsewhere would tell its host who is grading when; it becomes a link.
    """
    if len(source) > PROSE_LIMIT:
        source = source[:PROSE_LIMIT] + "\n\n… cut here: too long"
    source = FENCE.sub(r"\1\2", source)
    source = TAG.sub("<\u200b", source)
    source = SCRIPT.sub("\\1\u200b", source)
    source = ENTITY.sub("&\u200b", source)
    return PICTURE_ELSEWHERE.sub("[", TEX.sub(r"＼\1", source))


@dataclass
class Allowance:
    """How many characters outputs may still take, in one cell and in the whole notebook, and whether some did not fit."""

    text: int
    pictures: int
    whole: "Allowance | None" = None
    overflowed: bool = False

    @classmethod
    def of_notebook(cls) -> "Allowance":
        return cls(text=2 << 20, pictures=8 << 20)

    def of_cell(self) -> "Allowance":
        """What the next cell may take."""
        return Allowance(min(1 << 20, self.text), min(4 << 20, self.pictures), self)

    def take(self, text: int = 0, pictures: int = 0) -> None:
        self.text -= text
        self.pictures -= pictures
        if self.whole:
            self.whole.take(text, pictures)

    def overflow(self) -> None:
        self.overflowed = True
        if self.whole:
            self.whole.overflow()


def defuse(outputs: Iterable[dict], left: Allowance) -> Iterator[NotebookNode]:
    """Text and pictures of a cell's outputs, within an allowance; no HTML, no script, no vector graphics, no colours."""
    for output in outputs:
        kind = output.get("output_type")
        pictures = {}
        if kind == "stream":
            text = writable(output.get("text", ""))
        elif kind == "error":
            lines = output.get("traceback")
            text = "\n".join(map(writable, lines)) if lines and isinstance(lines, list) else writable(output.get("evalue", ""))
        elif kind in ("display_data", "execute_result") and isinstance(output.get("data"), dict):
            pictures = pictures_of(output["data"], left)
            text = writable(output["data"].get("text/plain", ""))
        else:
            continue
        if len(text) > left.text:
            left.overflow()
            text = text[: left.text] + "\n… cut here: too much output" if left.text > 0 else ""
        left.take(text=len(text))
        text = CONTROL.sub("", text)
        if pictures:
            yield nbformat.v4.new_output("display_data", data={**pictures, "text/plain": text[:200]})
        elif text:
            yield nbformat.v4.new_output("stream", name="stdout", text=text if text.endswith("\n") else text + "\n")


def writable(value: object) -> str:
    """Text that can be written anywhere: JSON may hold halves of characters, and null characters."""
    text = "".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def pictures_of(bundle: dict, left: Allowance) -> dict[str, str]:
    """Pictures of a MIME bundle whose bytes are what they claim to be, as far as the allowance goes."""
    kept = {}
    for kind, start in PICTURE_TYPES.items():
        text = re.sub(r"\s", "", writable(bundle.get(kind, "")))
        try:
            if len(text) > left.pictures:
                left.overflow()
            elif text and base64.b64decode(text, validate=True).startswith(start):
                kept[kind] = text
                left.take(pictures=max(1000, len(text)))  # many small ones take space as well
        except ValueError:
            pass  # not base64
    return kept
