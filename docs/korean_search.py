"""A search for Korean: Sphinx has none, and without one 손실 is not found where the text says 손실이 or 손실을."""

import re

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish


class SearchKorean(SearchEnglish):
    """Particles follow a Korean word without a space, so each word is also known by its beginnings, from two syllables on."""

    lang = "ko"

    def split(self, input: str) -> list[str]:  # Sphinx calls it so
        words = super().split(input)
        korean = [word for word in words if re.fullmatch("[가-힣]{3,}", word)]
        return words + [word[:length] for word in korean for length in range(2, len(word))]


def setup(app: Sphinx) -> dict:
    app.add_search_language(SearchKorean)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
