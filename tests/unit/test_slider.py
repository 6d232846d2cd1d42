"""A slider works wherever its HTML is shown, in a real browser: with a mouse, with keys, on paper, and without JavaScript."""

import html
import os
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from course_utils import experiment, plots

IN_CI = bool(os.environ.get("CI")) or bool(os.environ.get("COURSE_CI"))


def picture(threshold):
    plt.plot([0, 1], [0, threshold])


def table(threshold):
    return pd.DataFrame({"says no": [1, 2], "says yes": [threshold, 4]}, index=["<no>", "yes"])


# --- what it is made of ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        picture,
        lambda value: plt.subplots(1, 2)[1][0].plot([0, value]),
        lambda value: plots.paired(pd.DataFrame({"a": [value], "b": [1]}), ylabel="share"),
    ],
    ids=["on the current figure", "on a figure of its own", "by a function of plots"],
)
def test_figures_become_pictures_and_none_stays_open(draw):
    plt.close("all")
    mine = plt.figure()
    made = plots.slider("threshold", [0.25, 0.5, 0.75], draw, alt="a line")
    assert plt.get_fignums() == [mine.number]
    plt.close(mine)
    assert made.html.count('src="data:image/png;base64,') == 3
    assert 'alt="a line (threshold 0.25)"' in made.html
    assert made._repr_html_() == made.html
    assert repr(made) == "Slider of threshold, 3 frames"


def test_tables_and_texts_are_shown_as_text():
    made = plots.slider("threshold", [0.5, 1], table)
    assert made.html.count("<table") == 2
    assert "&lt;no&gt;" in made.html
    styled = plots.slider("threshold", [0.5], lambda value: table(value).style.format("{:.2f}"))
    assert "0.50" in styled.html
    words = plots.slider("name", ['<b onload="x">'], lambda value: f"{value} & more")
    assert "<b" not in words.html
    assert "&lt;b onload=&quot;x&quot;&gt; &amp; more" in words.html


def test_what_can_be_printed_is_shown_as_it_is_printed():
    column = pd.Series({"plain": 0.5})
    for found in (column, 0.25, experiment.interval([1.0, 3.0])):
        assert f"<pre>{html.escape(str(found))}</pre>" in plots.slider("n", [1], lambda value, found=found: found).html


def test_a_figure_of_its_own_may_be_returned():
    figure = Figure()
    figure.subplots().plot([0, 1])
    assert 'src="data:image/png;base64,' in plots.slider("n", [1], lambda value: figure).html


def test_the_same_slider_is_the_same_text_in_every_execution():
    first, second = (plots.slider("threshold", [0.25, 0.5], picture).html for _ in range(2))
    assert first == second
    assert first != plots.slider("threshold", [0.25, 0.75], picture).html


def test_values_of_numpy_and_torch_are_shown_as_numbers():
    made = plots.slider("threshold", [torch.tensor(0.5), np.float32(0.25), np.int64(3)], table)
    assert [f'data-value="{value}"' in made.html for value in ("0.5", "0.25", "3")] == [True] * 3


def test_the_start_is_the_value_that_a_reader_sees():
    values = np.linspace(0, 1, 11)
    assert values[3] != 0.3
    assert 'value="3"' in plots.slider("threshold", values, table, start=0.3).html
    pairs = [np.array([1, 2]), np.array([3, 4])]
    assert 'value="1"' in plots.slider("pair", pairs, str, start=np.array([3, 4])).html


def test_a_slider_that_cannot_be_made_says_why(monkeypatch):
    plt.close("all")
    for values, draw, options, words in (
        ([], picture, {}, "no values"),
        ([1, 2], picture, {"start": 3}, "start is 3; it must be one of the values, 1, 2"),
        ([1, 2], lambda value: None, {}, r"draw\(1\) left nothing"),
        ([1, 2], lambda value: (picture(value), plt.close())[1], {}, "without plt.show or plt.close"),
    ):
        with pytest.raises(ValueError, match=words):
            plots.slider("n", values, draw, **options)

    def broken(value):
        plt.subplots()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        plots.slider("n", [1], broken)
    monkeypatch.setattr(plots, "MOST_MEGABYTES", 0.05)
    with pytest.raises(ValueError, match=r"of 30 frames take 0 MB, and a slider may take 0.05: give fewer values"):
        plots.slider("n", range(30), picture)
    assert plt.get_fignums() == []


# --- in a browser ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """A headless browser: loud on a laptop without one, an error in CI."""
    program, missing = shutil.which("chromium"), None
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "Playwright is not installed: pip install playwright"
    if program is None:
        missing = "no browser here: apt install chromium"
    if missing and IN_CI:
        raise FileNotFoundError(missing)
    if missing:
        pytest.skip(f"NOT TESTED: {missing}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_of(browser):
    """Opens sliders on one page, and fails if that page asks for anything, or has an error."""
    contexts, asked = [], []

    def open_page(*sliders, style="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.set_content(f"<style>{style}</style>" + "<hr>".join(made.html for made in sliders))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [address for address in asked if not address.startswith("data:")] == []


def shown(page, number=0):
    """Values of the frames that can be seen."""
    return [
        frame.get_attribute("data-value")
        for frame in page.locator("[data-slider]").nth(number).locator("[data-value]").all()
        if frame.is_visible()
    ]


THRESHOLDS = [0.25, np.float64(0.5), 0.75, 1]


def test_moving_it_changes_the_frame_and_the_value(page_of):
    page = page_of(plots.slider("threshold", THRESHOLDS, picture, start=0.5, alt="a line"))
    slider = page.get_by_role("slider", name="threshold")
    assert shown(page) == ["0.5"]
    assert page.get_by_role("img", name="a line (threshold 0.5)").is_visible()
    assert page.locator("img").nth(1).evaluate("image => image.complete && image.naturalWidth > 100")
    slider.fill("3")
    assert shown(page) == ["1"]
    assert slider.get_attribute("aria-valuetext") == "1"
    assert page.locator("strong").inner_text() == "1"
    slider.focus()
    for key, value in (("ArrowLeft", "0.75"), ("Home", "0.25"), ("ArrowRight", "0.5"), ("End", "1")):
        page.keyboard.press(key)
        assert shown(page) == [value]
        assert slider.get_attribute("aria-valuetext") == value


# What JupyterLab's shortcuts do: they take a key before the page does (left and right fold headings), but for elements that
# say no. Without that attribute the arrow keys did not move the slider there.
SHORTCUTS = """document.addEventListener("keydown", (event) => {
    if (!event.target.closest("[data-lm-suppress-shortcuts]")) event.preventDefault();
}, true)"""


def test_keys_move_it_where_jupyterlab_has_shortcuts_on_them(page_of):
    page = page_of(plots.slider("threshold", THRESHOLDS, table))
    page.evaluate(SHORTCUTS)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["0.5"]
    page.get_by_role("slider").evaluate("it => it.removeAttribute('data-lm-suppress-shortcuts')")
    page.keyboard.press("ArrowRight")
    assert shown(page) == ["0.5"]  # so the shortcuts are at work


def test_two_sliders_on_a_page_do_not_move_each_other(page_of):
    first, second = plots.slider("a", [1, 2], table), plots.slider("b", [3, 4], table)
    page = page_of(first, second, first)  # the same output may be shown twice, as by "new view for output"
    page.get_by_role("slider").nth(1).fill("1")
    assert [shown(page, number) for number in range(3)] == [["1"], ["4"], ["1"]]
    page.get_by_role("slider").nth(2).fill("1")
    assert [shown(page, number) for number in range(3)] == [["1"], ["4"], ["2"]]


def test_without_javascript_all_frames_stand_below_each_other_with_their_values(page_of):
    page = page_of(plots.slider("threshold", THRESHOLDS, picture), java_script_enabled=False)
    assert shown(page) == ["0.25", "0.5", "0.75", "1"]
    assert page.get_by_text("threshold 0.75").is_visible()
    assert not page.locator("input").is_visible()


def test_paper_shows_the_chosen_frame_and_its_value(page_of):
    page = page_of(plots.slider("threshold", THRESHOLDS, picture))
    page.get_by_role("slider").fill("2")
    page.emulate_media(media="print")
    assert shown(page) == ["0.75"]
    assert page.locator("strong").inner_text() == "0.75"
    assert page.locator("strong").is_visible()
    assert not page.locator("input").is_visible()


def test_a_dark_page_colours_the_words_and_not_the_figure(page_of):
    dark = "body { background: rgb(17, 17, 17); color: rgb(238, 238, 238); }"
    page = page_of(plots.slider("threshold", [1], picture), style=dark, color_scheme="dark")
    for part in ("label", "strong"):
        assert page.locator(part).evaluate("it => getComputedStyle(it).color") == "rgb(238, 238, 238)"
    corner = """async (image) => {
        const canvas = document.createElement("canvas");
        canvas.getContext("2d").drawImage(image, 0, 0);
        return Array.from(canvas.getContext("2d").getImageData(1, 1, 1, 1).data);
    }"""
    assert page.locator("img").evaluate(corner) == [255, 255, 255, 255]


def test_a_narrow_page_does_not_scroll_sideways(page_of):
    page = page_of(plots.slider("threshold", [1, 2], picture), viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= 390")
