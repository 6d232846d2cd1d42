"""Rewrite what README.md takes from elsewhere: the table of lessons, and the address of the site.

Usage: python tools/readme.py [--check]
"""

import re

import course
import tables

README = course.ROOT / "README.md"


def refreshed() -> str:
    text = README.read_text(encoding="utf-8")
    site = course.site_address()
    blocks = {"lessons": f"\n{tables.lessons_with_badges()}\n\n", "site": f"[the site]({site})"}
    for name, block in blocks.items():
        pattern = rf"(<!-- {name}: [^\n]*?-->\n?)(?:[^\n]*?|.*?\n)(<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda found: f"{found[1]}{block}{found[2]}", text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            raise SystemExit(f"README.md has {count} blocks `<!-- {name}: … -->` to `<!-- end of {name} -->`; it needs one.")
    return text


def main() -> None:
    parser = course.parser(__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, and fail when README.md is out of step")
    options = parser.parse_args()
    course.keep_in_step({README: refreshed()}, "make readme", options.check)


if __name__ == "__main__":
    main()
