"""Two hundred hostile notebooks' worth of ideas: each gets what it earned, and nobody else notices."""

import contextlib
import os
import re
import socket
import sqlite3
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from bs4 import BeautifulSoup
from nbgrader.api import Gradebook

from course_grade import sandbox
from tests.homework import toy
from tests.homework.attacks import ATTACKS
from tests.homework.conftest import Run, digests, left_behind, make_course

HONEST = {"test-scale": "4", "test-total": "2"}
PEERS = ("honest", "zz_honest")


@pytest.fixture(scope="module")
def run(tmp_path_factory, bubblewrap):
    """All attacks and two honest students, graded by one command while this machine listens on a port."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            try:
                while True:
                    calls.append(server.accept()[0])
            except OSError:
                pass

        threading.Thread(target=listen, daemon=True).start()
        os.environ["COURSE_TEST_PORT"] = str(server.getsockname()[1])
        run = make_course(tmp_path_factory.mktemp("attacked"), **dict.fromkeys(PEERS, toy.RIGHT))
        for name, attack in ATTACKS.items():
            attack.make(run.inbox, run.inbox / f"{name}.ipynb")
        run.before = digests(run.inbox), digests(run.course), digests(Path(sandbox.KERNELS))
        run.grade("--jobs", "2")
        run.calls = calls
        yield run


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gets_what_it_earned_and_a_note(run: Run, name):
    row = run.table.loc[name]
    wanted = ATTACKS[name]
    assert (row["test-scale"], row["test-total"]) == (wanted.scale, wanted.total)
    assert wanted.note in row["notes"]
    assert float(row["total"]) == float(wanted.scale) + float(wanted.total)


@pytest.mark.parametrize("name", PEERS)
def test_peers_get_their_points(run: Run, name):
    row = run.table.loc[name]
    assert row[list(HONEST)].to_dict() == HONEST
    assert row["to_grade_by_hand"] == "why"
    assert row["notes"] == ""


def test_files_of_others_are_as_they_were(run: Run):
    assert (digests(run.inbox), digests(run.course), digests(Path(sandbox.KERNELS))) == run.before


def test_the_gradebook_holds_one_row_for_each_student_and_cell(run: Run):
    students = set(ATTACKS) | set(PEERS)
    assert set(run.table.index) == students
    with Gradebook(f"sqlite:///{run.out / 'gradebook.db'}") as book:
        assert {student.id for student in book.students} == students
        assert [assignment.name for assignment in book.assignments] == ["toy"]
        submissions = book.assignment_submissions("toy")
        assert len(submissions) == len(students)
        for submission in submissions:
            assert len(submission.notebooks) == 1
            assert sorted(grade.name for grade in submission.notebooks[0].grades) == [
                "picture",
                "test-scale",
                "test-total",
                "why",
            ]
            assert submission.max_score == 10
    with contextlib.closing(sqlite3.connect(run.out / "gradebook.db")) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_no_process_no_socket_and_no_group_is_left(run: Run):
    assert left_behind(run) == []


def test_nobody_called(run: Run):
    assert run.calls == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("solutions_from_the_disk", "FOUND []"),
        ("writes_to_every_file_it_finds", "FileNotFoundError"),
        ("network", "Error"),
        ("settings_of_the_system", "Error"),
        ("namespaces_of_its_own", "refused 1000"),
    ],
)
def test_an_attack_was_really_tried_and_failed(run: Run, name, words):
    printed = run.graded(name).cells[0].outputs[0].text
    assert words in printed
    assert not re.search("DID IT|CONNECTED|ROOT", printed)


def test_memory_ran_out_inside(run: Run):
    assert "MemoryError" in "".join(
        o.text for c in run.graded("ten_gigabytes").cells for o in c.get("outputs", ()) if "text" in o
    )


def test_output_is_cut(run: Run):
    sizes = {name: len((run.out / "autograded" / name / "toy" / "toy.ipynb").read_bytes()) for name in ATTACKS}
    assert sizes.pop("prints_and_draws_in_a_hundred_cells") < 11_000_000  # what a notebook may have, pictures and all
    assert max(sizes.values()) < 4_000_000


def test_no_page_has_an_element_that_acts(run: Run):
    """What a student wrote reaches pages as text. The browser test opens such a page."""
    page = BeautifulSoup(run.feedback("scripts_in_answers_and_outputs"), "html.parser").find(id="notebook-container")
    assert "HACKED" in page.text
    assert page.find_all(["script", "iframe", "svg", "object", "embed", "style", "link", "form"]) == []
    for element in page.find_all(True):
        assert [name for name in element.attrs if name.startswith("on")] == []
        assert urlsplit(element.get("href", "")).scheme in ("", "http", "https")
        assert urlsplit(element.get("src", "")).scheme in ("", "data")
    for block in page.find_all("pre"):
        block.decompose()  # where MathJax looks for no formula
    assert not re.search(r"\\(href|mmlToken)", page.text)


def test_feedback_quotes_no_hidden_test(run: Run):
    for student in run.table.index:
        page = run.feedback(student)
        for line in toy.HIDDEN:
            for text in (line, line.replace('"', "&quot;"), line.encode().hex()):
                assert text not in page
        assert "BEGIN HIDDEN" not in page
        assert "BEGIN SOLUTION" not in page


def test_feedback_says_which_checks_failed(run: Run):
    page = run.feedback("honest_and_half_right")
    assert "✓ five numbers" in page
    assert "✗ a factor below zero: another value" in page
