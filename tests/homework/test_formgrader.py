"""Pages that a person grades from, in a real browser: a hostile answer is text there, and grades given by hand arrive."""

import os
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook

from tests.homework import toy
from tests.homework.attacks import ATTACKS, SCRIPTS
from tests.homework.conftest import Run, eventually, hand_in, make_course

HOSTILE = "scripts_in_answers_and_outputs"
FILE = "\"><img src=x onerror=document.title='HACKED'>{{7*7}}"
NAME = "___img src=x onerror=document.title='HACKED'_{{7*7}}"  # what becomes of it
ELSEWHERE = "images.example"  # no such host
FETCHES = f"""
![a picture](https://{ELSEWHERE}/one.png) <img src="https://{ELSEWHERE}/two.png"> <img src="//{ELSEWHERE}/three.png">
<div style="background: url(https://{ELSEWHERE}/four.png)">styled</div>
<video src="https://{ELSEWHERE}/five.mp4" poster="https://{ELSEWHERE}/six.png"></video>
<link rel="stylesheet" href="https://{ELSEWHERE}/seven.css"> <img srcset="https://{ELSEWHERE}/eight.png 1x">
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, bubblewrap) -> Run:
    run = make_course(tmp_path_factory.mktemp("formgrader"), honest=toy.RIGHT, **{FILE: toy.RIGHT})
    ATTACKS[HOSTILE].make(run.inbox, run.inbox / f"{HOSTILE}.ipynb")
    fetching = toy.answered()
    fetching.cells.append(new_markdown_cell(FETCHES))
    hand_in(run, "fetching", fetching)
    run.grade()
    return run


@pytest.fixture(scope="module")
def formgrader(run, chromium, tmp_path_factory):
    """Address of a Jupyter server in DIR, where the browser has logged in: what an instructor starts, in a home of its own."""
    home, token, port = tmp_path_factory.mktemp("home"), secrets.token_hex(8), _free_port()
    own = {name: str(home / name) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=run.out, env=os.environ | own, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (home / "log").read_text()
        try:
            return requests.get(f"{address}/api/status", params={"token": token}, timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        eventually(answers, 60, pause=0.1)
        entrance = chromium.new_page()
        entrance.goto(f"{address}/login?token={token}")
        entrance.close()
        yield address
    finally:
        server.terminate()
        server.wait(30)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Visit:
    """A page in the browser, cut off from all but this machine, and what it tried."""

    def __init__(self, browser, address: str) -> None:
        self.stays = False
        self.asked: list[str] = []
        self.dialogs: list[str] = []
        self.page = browser.new_page()
        self.page.route("**/*", self._route)
        self.page.on("dialog", self._dismiss)
        self.page.goto(address, wait_until="load")
        self.page.wait_for_timeout(300)

    @property
    def notebook(self):
        """Where the student's cells are shown: nbgrader's pages have one such element in the other."""
        return self.page.locator("#notebook-container").last

    def _route(self, route) -> None:
        if self.stays and route.request.is_navigation_request():
            return route.abort("aborted")  # a link may lead elsewhere
        address = urlsplit(route.request.url)
        if address.hostname in ("127.0.0.1", None):  # None: a file, or data within the page
            return route.continue_()
        self.asked.append(address.hostname)
        return route.abort()

    def _dismiss(self, dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def touch_everything(self) -> None:
        """Click every link that is the student's, and hover over every picture."""
        self.stays = True
        links = self.notebook.locator(".rendered_html a, .output a").all()
        for link in links:
            link.dispatch_event("click")
        for picture in self.notebook.locator("img").all():
            picture.dispatch_event("mouseover")
        self.page.mouse.move(300, 300)
        self.page.wait_for_timeout(300)
        assert len(links) > 2

    def shot(self, name: str) -> None:
        if folder := os.environ.get("COURSE_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def page_of(run: Run, formgrader: str, student: str) -> str:
    """Address of a student's page in formgrader."""
    with Gradebook(f"sqlite:///{run.out / 'gradebook.db'}") as book:
        number = book.find_submission_notebook("toy", "toy", student).id
    return f"{formgrader}/formgrader/submissions/{number}/?index=0"


@pytest.fixture(scope="module")
def visit(chromium):
    """Open a page, and close it at the end."""
    visits = []

    def open_page(address: str) -> Visit:
        visits.append(Visit(chromium, address))
        return visits[-1]

    yield open_page
    for opened in visits:
        opened.page.close()


@pytest.fixture(scope="module", params=["formgrader", "feedback"])
def pages(request, run, visit):
    """How a kind of page is opened for a student."""

    def open_page(student: str) -> Visit:
        if request.param == "feedback":
            address = (run.out / "feedback" / student / "toy" / "toy.html").resolve().as_uri()
        else:
            address = page_of(run, request.getfixturevalue("formgrader"), student)
        made = visit(address)
        made.shot(f"{request.param}_{student}")
        return made

    return open_page


def test_an_honest_page_shows_the_answer(pages):
    assert pages("honest").notebook.get_by_text("Since I measured it.").is_visible()


def test_a_hostile_page_shows_its_answer_and_does_nothing(pages):
    honest, hostile = pages("honest"), pages(HOSTILE)
    hostile.touch_everything()
    page = hostile.page
    assert page.title() == honest.page.title()
    assert hostile.dialogs == []
    assert len(page.frames) == 1
    notebook = hostile.notebook
    assert notebook.locator("script, iframe, svg, object, embed, style, link, form, video").count() == 0
    assert SCRIPTS[0] in notebook.inner_text()  # in a comment of the code: there to be read
    assert notebook.get_by_text("click").first.is_visible()
    assert page.locator("body").is_visible()
    assert set(hostile.asked) <= set(honest.asked)  # nbgrader's page asks for MathJax


def test_a_page_fetches_nothing_for_a_student(pages):
    """A picture elsewhere would tell a student when, and from where, the answer is read."""
    fetching = pages("fetching")
    assert fetching.notebook.get_by_text("styled").is_visible()
    assert ELSEWHERE not in fetching.asked


@pytest.fixture(scope="module")
def by_hand(run, formgrader, visit) -> Visit:
    """Points and a comment entered in the form, each saved by leaving its field; then the command again."""
    made = visit(page_of(run, formgrader, HOSTILE))
    made.page.wait_for_selector("#why-comment[placeholder]")  # the form is filled in and listens
    for field, text in (("#why", "3"), ("#why-comment", "Well reasoned.")):
        made.page.locator(field).fill(text)
        with made.page.expect_response(lambda answer: answer.request.method == "PUT") as answer:
            made.page.locator(field).blur()
        assert answer.value.ok
    made.page.wait_for_timeout(300)
    made.shot("formgrader_by_hand")
    run.before = run.table
    run.grade()
    return made


def test_what_is_entered_is_in_the_gradebook(run, by_hand):
    with Gradebook(f"sqlite:///{run.out / 'gradebook.db'}") as book:
        grade = book.find_grade("why", "toy", "toy", HOSTILE)
        assert (grade.manual_score, grade.needs_manual_grade) == (3, False)
        assert book.find_comment("why", "toy", "toy", HOSTILE).comment == "Well reasoned."


def test_what_is_entered_arrives_in_the_table(run, by_hand):
    before, after = (table.loc[HOSTILE] for table in (run.before, run.table))
    assert (before["why"], before["to_grade_by_hand"]) == ("", "picture why")
    assert (after["why"], after["to_grade_by_hand"]) == ("3", "picture")
    assert float(after["total"]) == float(before["total"]) + 3
    assert "0 of them now" in run.done.stdout
    assert run.table.loc["honest"].equals(run.before.loc["honest"])


def test_what_is_entered_is_read_in_the_feedback(run, by_hand, visit):
    made = visit((run.out / "feedback" / HOSTILE / "toy" / "toy.html").resolve().as_uri())
    made.shot("feedback_by_hand")
    notebook = made.notebook
    assert notebook.get_by_text("Well reasoned.").is_visible()
    assert made.page.title() == "toy"
    assert "Score: 3.0 / 3.0" in notebook.inner_text()


def test_the_list_of_submissions_leads_to_a_page(run, formgrader, visit):
    made = visit(f"{formgrader}/formgrader/gradebook/toy/toy")
    made.page.get_by_role("link", name="Submission #1").click()
    made.page.wait_for_selector("#why-comment")
    made.shot("formgrader_from_the_list")
    assert made.dialogs == []


@pytest.mark.parametrize(
    "place", ["gradebook/toy", "gradebook/toy/toy", "manage_submissions/toy", "manage_students", "student", "page"]
)
def test_a_hostile_name_is_text_wherever_it_is_shown(run, formgrader, visit, place):
    places = {"page": page_of(run, formgrader, NAME), "student": f"{formgrader}/formgrader/manage_students/{quote(NAME)}"}
    made = visit(places.get(place, f"{formgrader}/formgrader/{place}"))
    made.page.wait_for_timeout(500)
    made.shot(f"name_{place.replace('/', '_')}")
    assert "HACKED" not in made.page.title()
    assert made.page.locator("img[src=x]").count() == 0
    assert made.dialogs == []
    assert NAME in made.page.content() or place.startswith("gradebook")  # where names are hidden at first
