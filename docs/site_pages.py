"""What the site does to pages while Sphinx writes them: links, what a page says of itself, and what it need not load."""

import html
import json
import os
import re
from importlib import metadata
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from fontTools import subset
from sphinx.application import Sphinx
from sphinx.util.fileutil import copy_asset

SITE = json.loads(Path(os.environ["COURSE_SITE"]).read_text(encoding="utf-8"))
ROOT = Path(__file__).resolve().parent.parent
# Where a link leads, in the three ways of writing it in HTML.
LINK = re.compile(r"""(<a\b[^>]*?\shref\s*=\s*)(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
# A table's corner that says nothing; to a screen reader a heading without words is a fault.
EMPTY_HEADING = re.compile(r"<th\b([^>]*)>((?:\s|&nbsp;|<p></p>)*)</th>")
# Rules of Font Awesome's style sheet, one an icon: its names, and its place in the font.
ICON = re.compile(r"((?:\.fa-[\w-]+,?)+)\{--fa:\"\\([0-9a-f]+)\"[^}]*\}")
MATHJAX = ("startup.js", "core.js", "input/tex.js", "output/chtml.js", "output/chtml/fonts", "a11y/assistive-mml.js")


def setup(app: Sphinx) -> dict:
    app.connect("builder-inited", add_filter)
    app.connect("autodoc-skip-member", without_aliases)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", turn_links)
    app.connect("html-page-context", mend)
    app.connect("build-finished", copy_mathjax)
    app.connect("build-finished", drop_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def add_filter(app: Sphinx) -> None:
    """Give templates `without`, which takes out what matches."""
    app.builder.templates.environment.filters["without"] = lambda text, pattern: re.sub(pattern, "", str(text))


def without_aliases(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Fields of named tuples: Python's own words for them, "Alias for field number 0", say nothing."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def describe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Hand a page's facts to its template: description, Colab, download."""
    context["facts"] = SITE["pages"].get(pagename, {})


def turn_links(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Links are written from file to file, as GitHub and JupyterLab follow them; here they lead from page to page."""
    source = SITE["pages"].get(pagename, {}).get("source")
    if not source or "body" not in context:
        return
    folder = Path(source).parent

    def turned(found: re.Match) -> str:
        try:
            address = urlsplit(html.unescape(next(filter(None, found.groups()[1:]), "")))
        except ValueError:  # an address that is not one
            return found[0]
        if address.scheme or address.netloc or not address.path:
            return found[0]
        target = os.path.normpath(folder / unquote(address.path))
        fragment = f"#{address.fragment}" if address.fragment else ""
        if target in SITE["sources"]:
            page = app.builder.get_relative_uri(pagename, SITE["sources"][target]) or f"{quote(Path(pagename).name)}.html"
            return f'{found[1]}"{html.escape(page + fragment)}"'
        if target in SITE["english"]:
            up = "../" * (pagename.count("/") + 1)
            return f'{found[1]}"{up}en/{html.escape(SITE["english"][target] + ".html" + fragment)}"'
        inside = os.path.relpath(target, ROOT)
        if SITE["repository"] and not inside.startswith("..") and Path(target).exists():
            kind = "tree" if Path(target).is_dir() else "blob"
            return f'{found[1]}"{SITE["repository"]}/{kind}/main/{quote(Path(inside).as_posix())}{html.escape(fragment)}"'
        return found[0]

    context["body"] = LINK.sub(turned, context["body"])


def mend(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """For screen readers: headings of tables without words become cells, and a fold is called by its own title."""
    if "body" in context:
        body = EMPTY_HEADING.sub(r"<td\1>\2</td>", context["body"])
        context["body"] = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Formulas without a network: the parts of MathJax that pages load, from the package that brings it."""
    if exception is not None:
        return
    folder = next(
        Path(str(file.locate())).parent
        for file in metadata.files("sphinx-mathjax-offline") or ()
        if file.name == "startup.js" and file.parent.name == "mathjax"
    )
    for part in MATHJAX:
        target = Path(app.outdir, "_static", "mathjax", part)
        copy_asset(str(folder / part), str(target.parent if target.suffix else target))


def drop_icons(app: Sphinx, exception: Exception | None) -> None:
    """Of two thousand icons a page shows a dozen: the style sheet and the fonts keep these, 240 kB less a visit."""
    if exception is not None:
        return
    out = Path(app.outdir)
    written = [*out.rglob("*.html"), *(out / "_static" / "scripts").glob("*.js")]
    used = {name for path in written for name in re.findall(r"fa-[\w-]+", path.read_text(encoding="utf-8"))}
    kept: set[int] = set()

    def kept_rule(found: re.Match) -> str:
        if used.isdisjoint(re.findall(r"fa-[\w-]+", found[1])):
            return ""
        kept.add(int(found[2], 16))
        return found[0]

    sheet = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    sheet.write_text(ICON.sub(kept_rule, sheet.read_text(encoding="utf-8")), encoding="utf-8")
    options = subset.Options(flavor="woff2")
    for path in (out / "_static" / "vendor" / "fontawesome" / "webfonts").glob("*.woff2"):
        font = subset.load_font(path, options)
        smaller = subset.Subsetter(options)
        smaller.populate(unicodes=kept)
        smaller.subset(font)
        subset.save_font(font, path, options)
