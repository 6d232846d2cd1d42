"""The site as a reader meets it: pages, links, formulas, search, phones, keyboards, and nothing from another host."""

import functools
import gzip
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import course  # noqa: E402
import tables  # noqa: E402
from course_utils import record  # noqa: E402

# Executed here: the first, one with a slider, and one with formulas in folded answers. The others are shown without outputs.
EXECUTED = ("00_start_here", "04_metrics", "11_imbalance")
PAGES = ["index.html", *(f"lessons/{name}.html" for name in EXECUTED), "results.html", "api/course_utils.train.html"]
MOST_BYTES = 400_000  # of a page without its pictures, as a server sends it
# What somebody might look for, and the lesson that should be found.
WORDS = {
    "dropout": "01_fitting",
    "momentum": "02_optimizers",
    "latency": "03_model_selection",
    "recall": "04_metrics",
    "suppression": "05_detection_metrics",
    "temperature": "06_calibration",
    "mixup": "07_mixup",
    "distillation": "08_label_smoothing",
    "bagging": "10_ensembles",
    "pseudo": "12_pseudo_labelling",
    "앙상블": "10_ensembles",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, and what the command said."""
    folder = tmp_path_factory.mktemp("site")
    notebooks = [ROOT / "notebooks" / f"{name}.ipynb" for name in EXECUTED]
    command = [sys.executable, ROOT / "tools" / "lessons.py", "--profile", "ci", "--strict"]
    command += ["--out", folder / "site", "--executed", folder / "executed", *notebooks]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site", done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(built):
    return built[0] / "en"


@pytest.fixture(scope="module")
def soups(site):
    """All pages, parsed, by their path."""
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in sorted(site.rglob("*.html"))}


def test_the_build_warns_of_nothing(built):
    assert "WARNING" not in built[1]
    assert "0 failed" in built[1]


def test_every_lesson_has_a_page_under_its_name_with_colab_download_and_neighbours(site, soups):
    lessons = course.lessons()
    for place, path in enumerate(lessons):
        page = soups[site / "lessons" / f"{path.stem}.html"]
        assert course.question(course.read(path)) in page.h1.text.replace("\N{NO-BREAK SPACE}", " ")
        links = [link["href"] for link in page.find_all("a", href=True)]
        assert course.colab_address(ROOT, path) in links
        (download,) = (link for link in page.find_all("a", download=True) if link["href"].endswith(".ipynb"))
        assert (site / "lessons" / download["href"]).resolve().read_bytes() == path.read_bytes()
        for neighbour in lessons[max(place - 1, 0) : place] + lessons[place + 1 : place + 2]:
            assert f"{neighbour.stem}.html" in links
        assert "colab-badge" not in str(page)


def test_an_executed_lesson_shows_its_outputs_and_another_says_that_it_has_none(site, soups):
    shown = soups[site / "lessons" / "00_start_here.html"]
    assert shown.select("div.cell_output img")
    assert "without running" not in shown.text
    other = soups[site / "lessons" / "07_mixup.html"]
    assert not other.select("div.cell_output img")
    assert "without running" in other.text


def test_what_is_folded_in_a_lesson_is_folded_on_its_page(site, soups):
    for name in EXECUTED:
        cells = course.read(ROOT / "notebooks" / f"{name}.ipynb").cells
        folded = [cell for cell in cells if cell.metadata.get("jupyter", {}).get("source_hidden")]
        page = soups[site / "lessons" / f"{name}.html"]
        hidden = page.select("details.hide")
        assert len(hidden) == len(folded)
        titles = " ".join(summary.text for summary in page.select("details.hide summary"))
        for cell in folded:
            assert cell.source.partition("\n")[0].removeprefix("# @title ") in " ".join(titles.split())


def test_links_and_anchors_lead_somewhere(site, soups):
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in soups.items()}
    dead = set()
    for path, page in soups.items():
        for link in page.find_all("a", href=True):
            address = urlsplit(link["href"])
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (
                address.fragment and target in anchors and unquote(address.fragment) not in anchors[target]
            ):
                dead.add((path.relative_to(site).as_posix(), link["href"]))
    # A page of Sphinx's own says "#" for "here"; everything else must be found.
    assert not {link for link in dead if link[1] != "#"}


def test_links_to_the_repository_name_files_that_exist(soups):
    repository = course.repository()
    named = set()
    for page in soups.values():
        for link in page.find_all("a", href=re.compile(f"^{re.escape(repository)}/(blob|tree)/main/")):
            named.add(unquote(link["href"].partition("/main/")[2].partition("#")[0]))
    assert "README.md" in named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_picture_has_a_text(soups):
    bare = [
        (path.name, str(image)[:80]) for path, page in soups.items() for image in page.find_all("img") if not image.get("alt")
    ]
    assert not bare


def test_no_formula_and_no_markdown_stays_raw(site, soups):
    """As in a fold without blank lines around its text."""
    for path, page in soups.items():
        if path.parent != site / "lessons":
            continue
        prose = BeautifulSoup(str(page.article), "html.parser")
        for tag in prose.select("pre, code, .math, .cell_output, script, style"):
            tag.decompose()
        raw = re.findall(r"\$[^$\n]{1,80}\$|\*\*[^*\n]{1,60}\*\*|\]\([^)\s]+\)", prose.text)
        assert not raw, path.name


def test_every_claim_has_a_sentence_and_every_sentence_a_claim(soups, site):
    said = tables.findings()
    for path in sorted((ROOT / "results" / "cpu").glob("*.json")):
        header, claims = record.read(path)
        assert {claim.name for claim in claims} == set(said[header["lesson"]]["claims"])
    assert {course.number(path) for path in course.lessons()} == set(said)
    rows = soups[site / "results.html"].select("tbody tr")
    assert len(rows) == sum(len(facts.get("claims", ())) for facts in said.values())
    assert all(re.search(r"\d", row.text) for row in rows)


def test_every_term_of_a_lesson_is_in_the_glossary_with_a_link_to_where_it_stands(soups, site):
    page = soups[site / "glossary.html"]
    listed = {row.find_all("td")[1].text for row in page.select("tbody tr")}
    used = {korean for path in course.lessons() for _, korean, _ in tables.terms_of(path)}
    assert len(used) > 100
    assert listed == used
    assert len(used) == len(page.select("tbody tr"))  # one English word for each


def test_every_public_name_is_in_the_reference(soups, site):
    """Nothing that a lesson may call is missing, whatever its module lists."""
    import importlib

    for name in tables.modules():
        module = importlib.import_module(f"course_utils.{name}")
        page = soups[site / "api" / f"course_utils.{name}.html"]
        shown = {tag["id"].rpartition(".")[2] for tag in page.find_all("dt", id=True)}
        own = {
            key
            for key, value in vars(module).items()
            if not key.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
        }
        assert own <= shown, name


# --- in a browser --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(built):
    """Where a server of this machine shows the site."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(built[0])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        missing = "no browser here: apt install chromium, pip install playwright axe-playwright-python"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    quiet = ("gpu", "quic", "background-networking", "component-update", "sync")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in quiet)]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open a page in a browser of its own; complaints of the page and requests are kept with it."""
    contexts = []

    def opened(name, **options):
        context = browser.new_context(**({"viewport": {"width": 1300, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints, page.received = [], [], {}
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("requestfailed", lambda request: page.complaints.append(f"failed: {request.url}"))
        page.on("console", lambda said: said.type in ("error", "warning") and page.complaints.append(said.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("response", lambda answer: page.received.setdefault(answer.url, answer))
        page.goto(f"{address}en/{name}")
        page.wait_for_load_state("networkidle")
        if options.get("java_script_enabled", True):
            page.evaluate("() => window.MathJax?.startup?.promise")
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", [*PAGES, "search.html", "glossary.html", "instructors.html"])
def test_a_page_asks_no_other_host_and_complains_of_nothing(visit, address, name):
    page = visit(name)
    page.mouse.wheel(0, 100_000)
    page.wait_for_load_state("networkidle")
    assert len(page.requested) > 5
    assert not [url for url in page.requested if not url.startswith((address, "data:"))]
    assert not page.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_checker_of_accessibility_finds_nothing(visit, name, width, scheme):
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    page = visit(name, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
    page.evaluate(script)
    found = page.evaluate("() => axe.run()")
    assert len(found["passes"]) > 20
    assert not [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("lessons/")])
def test_a_lesson_without_its_pictures_is_small(visit, name):
    page = visit(name)
    size = 0
    for answer in page.received.values():
        kind = answer.headers.get("content-type", "")
        if not kind.startswith("image/png"):
            text = kind.startswith(("text/", "application/j", "image/svg"))
            size += len(gzip.compress(answer.body()) if text else answer.body())
    assert 50_000 < size <= MOST_BYTES


def test_a_lesson_can_be_read_before_scripts_run(visit):
    page = visit("lessons/04_metrics.html", java_script_enabled=False)
    assert page.locator("h1").is_visible()
    assert page.locator("article p").first.is_visible()
    assert page.locator("article pre:visible").count() > 3
    assert page.get_by_text("Open in Colab").is_visible()


@pytest.mark.parametrize("name", ["index.html", *(f"lessons/{path.stem}.html" for path in course.lessons()), "results.html"])
def test_nothing_is_wider_than_a_phone(visit, name):
    page = visit(name, viewport={"width": 390, "height": 844})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_formulas_are_set_without_a_network(visit):
    page = visit("lessons/00_start_here.html")
    assert page.locator("mjx-container").count() > 10
    assert page.locator("mjx-merror").count() == 0
    assert page.locator("mjx-assistive-mml math").count() > 10


@pytest.mark.parametrize("word", WORDS)
def test_the_search_finds_a_lesson_as_one_types(visit, word):
    page = visit("index.html")
    assert not [url for url in page.requested if "searchindex" in url]
    page.keyboard.press("Control+k")
    field = page.locator("#pst-search-dialog input[name=q]")
    field.wait_for(state="visible")
    field.press_sequentially(word)
    page.keyboard.press("Shift")  # letters that are on no key of this keyboard come without the event that an IME sends
    found = page.locator(f"#search-results a[href*='{WORDS[word]}']").first
    found.wait_for(state="visible", timeout=20_000)
    found.click()
    page.wait_for_url(f"**/{WORDS[word]}.html*")


def test_a_keyboard_reaches_the_text_and_shows_where_it_is(visit):
    page = visit("lessons/04_metrics.html")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.getAttribute('href')") == "#main-content"
    for _ in range(6):
        page.keyboard.press("Tab")
        style = "(e => [getComputedStyle(e).outlineStyle, getComputedStyle(e).boxShadow])(document.activeElement)"
        outline, shadow = page.evaluate(f"() => {style}")
        assert outline != "none" or shadow != "none"


def test_a_slider_of_a_lesson_slides_by_keyboard_and_loads_its_pictures(visit):
    page = visit("lessons/04_metrics.html")
    slider = page.locator("article input[type=range]").first
    slider.scroll_into_view_if_needed()
    slider.focus()
    before = slider.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") != before
    page.wait_for_load_state("networkidle")
    frame = page.locator("article [data-value] img:visible").first
    assert frame.evaluate("image => image.complete && image.naturalWidth > 100")


def test_paper_shows_the_text_alone(visit):
    page = visit("lessons/00_start_here.html")
    page.emulate_media(media="print")
    assert page.locator("article h1").is_visible()
    for hidden in (".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".prev-next-footer"):
        assert not page.locator(hidden).first.is_visible()


@pytest.mark.parametrize(("locale", "language"), [("en-GB", "en"), ("ko-KR", "ko"), ("de-DE", "en")])
def test_the_root_leads_to_the_readers_language(browser, address, locale, language):
    context = browser.new_context(locale=locale)
    page = context.new_page()
    page.goto(address)
    page.wait_for_url(f"{address}{language}/")
    assert page.locator("h1").first.is_visible()
    assert page.locator("html").get_attribute("lang") == language
    context.close()


# --- in Korean -----------------------------------------------------------------------------------------------------------

# What somebody might look for, without the particle that follows in the text, and the lesson that should be found.
KOREAN_WORDS = {
    "손실": "00_start_here",
    "과적합": "01_fitting",
    "학습률": "02_optimizers",
    "전이": None,  # a word that no lesson has: nothing is found, and nothing breaks
    "미세 조정": "03_model_selection",
    "재현율": "04_metrics",
    "포락선": "05_detection_metrics",
    "온도": "06_calibration",
    "믹스업": "07_mixup",
    "스무딩": "08_label_smoothing",
    "앙상블": "10_ensembles",
    "불균형": "11_imbalance",
}


@pytest.fixture(scope="module")
def korean_site(built):
    return built[0] / "ko"


def test_every_lesson_has_a_korean_page_with_the_outputs_and_anchors_of_the_english_one(site, korean_site, soups):
    for path in course.lessons():
        english = soups[site / "lessons" / f"{path.stem}.html"]
        korean = BeautifulSoup((korean_site / "lessons" / f"{path.stem}.html").read_text(encoding="utf-8"), "html.parser")
        assert korean.html["lang"] == "ko"
        assert "On this page" not in korean.text
        anchors = [[tag["id"] for tag in page.article.find_all(id=re.compile("^lesson-"))] for page in (english, korean)]
        assert anchors[0] == anchors[1] != []
        outputs = [len(page.select("div.cell_output")) for page in (english, korean)]
        assert outputs[0] == outputs[1]
        assert bool(outputs[1]) == (path.stem in EXECUTED)
        links = [link["href"] for link in korean.find_all("a", href=True)]
        assert course.colab_address(ROOT, ROOT / "notebooks" / "ko" / path.name) in links
        raw = BeautifulSoup(str(korean.article), "html.parser")
        for tag in raw.select("pre, code, .math, .cell_output, script, style"):
            tag.decompose()
        assert not re.findall(r"\$[^$\n]{1,80}\$|\*\*[^*\n]{1,60}\*\*|\]\([^)\s]+\)", raw.text), path.name


def test_links_of_korean_pages_lead_somewhere(built, korean_site):
    for path in korean_site.rglob("*.html"):
        page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for link in page.find_all("a", href=True):
            address = urlsplit(link["href"])
            if not (address.scheme or address.netloc) and address.path:
                target = (path.parent / unquote(address.path)).resolve()
                assert target.exists(), (path.name, link["href"])
                assert target.is_relative_to(built[0])


@pytest.mark.parametrize("name", ["index.html", "lessons/04_metrics.html", "lessons/07_mixup.html"])
def test_one_click_leads_to_the_same_page_in_the_other_language(visit, address, name):
    page = visit(name)
    page.locator("a[hreflang=ko]:visible").first.click()
    page.wait_for_url(f"{address}ko/{name}")
    page.locator("a[hreflang=en]:visible").first.click()
    page.wait_for_url(f"{address}en/{name}")


@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize("name", ["index.html", "lessons/04_metrics.html", "glossary.html"])
def test_a_korean_page_is_whole_small_and_accessible(visit, address, name, width):
    import axe_playwright_python

    page = visit(f"../ko/{name}", viewport={"width": width, "height": 900})
    assert not [url for url in page.requested if not url.startswith((address, "data:"))]
    assert not page.complaints
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.evaluate(Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run()")
    assert not [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found["violations"]]


@pytest.mark.parametrize("word", KOREAN_WORDS)
def test_the_korean_search_finds_a_word_whatever_particle_follows_it(visit, word):
    page = visit("../ko/index.html")
    page.keyboard.press("Control+k")
    field = page.locator("#pst-search-dialog input[name=q]")
    field.wait_for(state="visible")
    field.press_sequentially(word)
    page.keyboard.press("Shift")
    if KOREAN_WORDS[word] is None:
        page.locator("#search-results .search-summary, #search-results p").first.wait_for(state="visible", timeout=20_000)
        assert page.locator("#search-results ul.search li").count() == 0
    else:
        page.locator(f"#search-results a[href*='{KOREAN_WORDS[word]}']").first.wait_for(state="visible", timeout=20_000)
