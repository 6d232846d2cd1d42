"""Who handed in what: names in all spellings, files of all kinds, folders, zips, and rows of lists that are wrong."""

import io
import os
import stat
import unicodedata
import zipfile
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_grade import class_tables, inbox, names, zips
from course_grade.errors import IntakeError, UsageError
from course_grade.students import NOTHING, Student
from course_grade.submission import FILE_LIMIT, parse
from course_grade.times import moment
from tests.homework import toy

NOTEBOOK = nbformat.writes(toy.answered()).encode()
OTHER = b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}'


def fits(content: bytes) -> bool:
    return b"scale" in content


@pytest.fixture
def put(tmp_path):
    """Put a file into the inbox, changed a second later than the one before."""
    times = iter(range(1_000, 10_000))
    folder = tmp_path / "inbox"
    folder.mkdir()

    def put(way: str, content: bytes = NOTEBOOK) -> Path:
        path = folder / way
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (now := next(times), now))
        return path

    put.folder = folder
    return put


def found(put, *roster: str) -> dict[str, Student]:
    students, nobodys = inbox.find(put.folder, list(roster), fits, "14_homework")
    found.nobodys = nobodys
    return {student.shown: student for student in students}


def zipped(**files: bytes) -> bytes:
    return zip_of(files)


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return raw.getvalue()


# --- names -------------------------------------------------------------------------------------------------------------------

SPELLINGS = {
    "김민지": ["김민지", unicodedata.normalize("NFD", "김민지"), " 김민지", "김민지 ", "\ufeff김민지", "김\u200b민지"],
    "Zoë Kim": ["zoë kim", "ZOË  KIM", unicodedata.normalize("NFD", "Zoë Kim"), "Zoë\u00a0Kim", "Zoë\u3000Kim", "Ｚｏë Ｋｉｍ"],
    "O'Brien": ["O’Brien", "o'brien", "Oʼbrien"],
    "Jean-Luc": ["jean‐luc", "Jean‑Luc", "Jean–Luc"],
    "２０２６-42": ["2026-42", "２０２６－４２"],
    "Straße": ["STRASSE", "strasse"],
}


@pytest.mark.parametrize(("name", "other"), [(name, other) for name, others in SPELLINGS.items() for other in others])
def test_one_student_in_two_spellings(put, name, other):
    put(f"{other}.ipynb")
    student = found(put, name)[name]
    assert student.read() == NOTEBOOK
    assert student.notes == []
    assert len(found(put, name)) == 1


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1, max_size=150))
def test_a_key_is_a_name_for_a_folder_and_for_nbgrader(name):
    key = names.key(name)
    assert len(key.encode()) <= 255
    assert len(key) <= 128
    assert not set(key) & set('/\\<>"&\0\n')
    assert names.fold(names.key(key)) == names.fold(key)
    assert names.fold(name) == names.fold(names.fold(name))


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet="가나다라 abc", min_size=5, max_size=20), st.booleans())
def test_names_are_equal_in_every_normal_form_and_case(name, upper):
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        spelled = unicodedata.normalize(form, name.upper() if upper else name)
        assert names.fold(f"  {spelled.replace(' ', '  ')}\u00a0") == names.fold(name)


def test_long_names_stay_apart(put):
    """A hundred Hangul are 300 bytes; such a name stands in a class list, or is a folder in a zip."""
    long = ["김" * 100, "김" * 99 + "이", "a" * 125 + "1", "a" * 125 + "2"]
    put("class.zip", zip_of({f"{name}/homework.ipynb": NOTEBOOK for name in long}))
    students = found(put, *long)
    assert list(students) == sorted(long, key=names.key)
    assert len({student.key for student in students.values()}) == 4
    for student in students.values():
        (put.folder / student.key).mkdir()
        assert student.read() == NOTEBOOK


def test_names_that_differ_in_what_a_folder_cannot_hold_stay_apart(put):
    put("a<b.ipynb")
    put("a>b.ipynb", OTHER)
    assert sorted(found(put)) == ["a_b", "a_b_"]


def test_a_name_with_a_slash_on_the_roster(put):
    put("김민지_20260042.ipynb")
    assert found(put, "김민지/20260042")["김민지/20260042"].read() == NOTEBOOK


def test_bytes_that_are_not_utf_8_are_korean(put):
    (put.folder / os.fsdecode("김민지.ipynb".encode("cp949"))).write_bytes(NOTEBOOK)
    assert found(put, "김민지")["김민지"].read() == NOTEBOOK


@pytest.mark.parametrize("newest", ["Kim Minji.ipynb", "kim minji.ipynb", "KIM  MINJI.IPYNB"])
def test_of_two_files_of_a_student_the_newest_counts_and_both_are_named(put, newest):
    others = {"Kim Minji.ipynb", "kim minji.ipynb", "KIM  MINJI.IPYNB"} - {newest}
    for name in sorted(others):
        put(name, NOTEBOOK + b"\n")
    put(newest)
    (student,) = found(put, "Kim Minji").values()
    assert student.read() == NOTEBOOK
    (note,) = student.notes
    assert "3 notebooks" in note
    assert f"{names.tidy(newest)} counts" in note


def test_the_same_file_twice_is_not_worth_a_word(put):
    put("kim.ipynb")
    put("KIM.ipynb")
    assert found(put, "Kim")["Kim"].notes == []


def test_a_notebook_of_this_homework_counts_before_a_newer_one(put):
    put("kim/14_homework.ipynb")
    put("kim/practical.ipynb", OTHER)
    student = found(put, "kim", "lee")["kim"]
    assert student.read() == NOTEBOOK
    assert "kim/practical.ipynb" in student.notes[0]


@pytest.mark.parametrize(
    "name",
    ["kim (1)", "kim(2)", "kim-Copy1", "kim - Copy", "kim copy 2", "kim - 복사본", "kim의 사본", "Copy of kim", "kim (1) (2)"],
)
def test_a_copy_goes_to_its_student_and_is_noted(put, name):
    put(f"{name}.ipynb")
    student = found(put, "Kim", "Lee")["Kim"]
    assert student.read() == NOTEBOOK
    assert student.notes == [f"{name}.ipynb has the name of a copy"]
    without = found(put)
    assert without[name].read() == NOTEBOOK
    assert "looks like that of a copy" in without[name].notes[0]


def test_an_exact_name_on_the_roster_is_not_a_copy(put):
    put("kim (1).ipynb")
    assert found(put, "kim", "kim (1)")["kim (1)"].notes == []


@pytest.mark.parametrize("name", ["hw14_김민지_final.ipynb", "김민지-14_homework.ipynb", "14_homework (김민지).ipynb"])
def test_a_name_within_a_file_name(put, name):
    put(name)
    students = found(put, "김민지", "이서연", "13")
    assert students["김민지"].read() == NOTEBOOK
    assert "recognised by the name in it" in students["김민지"].notes[0]
    assert students["13"].reason == NOTHING


@pytest.mark.parametrize("name", ["kim and lee.ipynb", "kimono.ipynb", "kim_lee.ipynb"])
def test_a_name_that_is_not_sure_is_not_guessed(put, name):
    put(name)
    students = found(put, "kim", "lee")
    assert students["kim"].reason == students["lee"].reason == NOTHING
    assert students[name.removesuffix(".ipynb")].notes == ["this name is not on the roster"]


def test_a_file_with_somebodys_name_in_it_does_not_replace_that_students_own(put):
    put("kim.ipynb")
    put("mallory_kim.ipynb", OTHER)
    students = found(put, "kim", "lee")
    assert students["kim"].read() == NOTEBOOK
    assert students["mallory_kim"].notes == ["this name is not on the roster"]


# --- kinds of files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada.ipynb.json", "ada.ipynb.txt", "ada.json", "ada.ipynb.download", "ada", "ADA.IPYNB.JSON"])
def test_a_notebook_with_another_ending_is_graded(put, name):
    put(name)
    for students in (found(put, "ada"), found(put)):
        (student,) = students.values()
        assert names.fold(student.shown) == "ada"
        assert student.read() == NOTEBOOK
        assert student.notes == [f"handed in as {name}"]


def test_an_upper_case_ending_is_nothing_odd(put):
    put("ada.IPYNB")
    assert found(put)["ada"].notes == []


@pytest.mark.parametrize("name", ["ada.pdf", "ada.docx", "ada.html", "ada.py", "ada.txt", "ada.json", "ada.tar.gz", "ada.hwp"])
def test_what_is_not_a_notebook_is_named(put, name):
    put(name, b"{}")
    put("bob.ipynb")
    student = found(put, "ada", "bob")["ada"]
    with pytest.raises(IntakeError, match=f"not a notebook: {name}"):
        student.read()
    students = found(put)
    assert name in found.nobodys or name in students["ada"].reason


def test_a_file_beside_a_notebook_is_named(put):
    put("ada.ipynb")
    put("ada.pdf", b"%PDF")
    student = found(put, "ada")["ada"]
    assert student.read() == NOTEBOOK
    assert student.notes == ["also handed in, not graded: ada.pdf"]


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "__MACOSX/._ada.ipynb", "Thumbs.db", "desktop.ini", ".ipynb_checkpoints/ada-checkpoint.ipynb", "~$ada.docx"],
)
def test_litter_of_systems_is_nobodys(put, name):
    put(name)
    put("ada/hw.ipynb")
    put(f"ada/{name}")
    put("bob.ipynb")
    assert sorted(found(put)) == ["ada", "bob"]
    assert found.nobodys == []
    assert found(put)["ada"].notes == []


# --- folders and zips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("roster", [(), ("Kim Minji", "이서연")])
@pytest.mark.parametrize(
    "layout",
    [
        "{}.ipynb",
        "{}/anything.ipynb",
        "{}_12345_assignsubmission_file/14_homework.ipynb",
        "{}_12345_assignsubmission_file_14_homework.ipynb",
        "{}_12345_assignsubmission_file_/deep/14_homework.ipynb",
    ],
)
@pytest.mark.parametrize("holder", ["", "a folder/", "class.zip"])
def test_layouts_of_a_class(put, layout, holder, roster):
    ways = [layout.format(name) for name in ("Kim Minji", unicodedata.normalize("NFD", "이서연"))]
    if holder.endswith("zip"):
        put(holder, zip_of(dict.fromkeys(ways, NOTEBOOK)))
    else:
        for way in ways:
            put(holder + way)
    students = found(put, *roster)
    assert sorted(students) == ["Kim Minji", "이서연"]
    assert all(student.read() == NOTEBOOK for student in students.values())
    assert found.nobodys == []


def test_a_class_in_a_zip_of_zips(put):
    put("class.zip", zip_of({"kim.zip": zip_of({"hw.ipynb": NOTEBOOK}), "lee.zip": zip_of({"hw.ipynb": OTHER})}))
    put("park.ipynb")
    students = found(put, "kim", "lee", "park")
    assert students["kim"].read() == NOTEBOOK
    assert students["lee"].read() == OTHER
    assert students["kim"].notes == ["handed in as class.zip/kim.zip/hw.ipynb"]


def test_who_is_not_on_the_roster_in_a_zip_of_the_class(put):
    put("class.zip", zip_of({"kim.ipynb": NOTEBOOK, "zoe.ipynb": NOTEBOOK}))
    put("lee.ipynb")
    students = found(put, "kim", "lee")
    assert sorted(students) == ["kim", "lee", "zoe"]


def test_a_zip_of_one_student(put):
    put("kim.zip", zip_of({"a/b/hw.ipynb": NOTEBOOK, "report.pdf": b"%PDF"}))
    put("lee.ipynb")
    for students in (found(put), found(put, "kim", "lee")):
        assert students["kim"].read() == NOTEBOOK
        assert students["kim"].notes == ["handed in as kim.zip/a/b/hw.ipynb", "also handed in, not graded: kim.zip/report.pdf"]


def test_a_zip_of_several_notebooks_names_them(put):
    put("kim.zip", zip_of({"a.ipynb": OTHER, "b.ipynb": NOTEBOOK, "c.ipynb": OTHER + b"\n"}))
    put("lee.ipynb")
    student = found(put, "kim", "lee")["kim"]
    assert student.read() == NOTEBOOK
    (note,) = student.notes
    assert note.startswith("handed in as kim.zip, which holds 3 notebooks: kim.zip/a.ipynb, kim.zip/b.ipynb, kim.zip/c.ipynb")
    assert note.endswith("; kim.zip/b.ipynb counts")


@pytest.mark.parametrize("name", ["kim.zip", "kim.ipynb.zip", "KIM.ZIP", "kim (1).zip"])
def test_names_of_zips(put, name):
    put(name, zip_of({"hw.ipynb": NOTEBOOK}))
    put("lee.ipynb")
    assert found(put, "Kim", "Lee")["Kim"].read() == NOTEBOOK


@pytest.mark.parametrize("name", ["kim.ipynb.pdf", "kim.tar.gz", "kim.ipynb.html", "kim.7z"])
def test_endings_are_not_the_name(put, name):
    put(name, b"x")
    put("lee.ipynb")
    assert name in found(put)["kim"].reason
    assert name in found(put, "kim", "lee")["kim"].reason


def test_a_name_without_its_blank(put):
    put("kimminji_12345_67890_14_homework-1.ipynb")
    assert found(put, "Kim, Minji", "Lee")["Kim, Minji"].read() == NOTEBOOK


def test_names_in_zips_of_korean_windows_and_of_macs(put):
    for encoding in ("cp949", "utf-8"):
        raw = zip_of({"XXXXXXXXX.ipynb": NOTEBOOK})
        name = "김민지".encode(encoding)
        put("class.zip", raw.replace(b"XXXXXXXXX", name.ljust(9, b" ")))
        assert found(put, "김민지", "이서연")["김민지"].read() == NOTEBOOK


def bomb() -> bytes:
    return zip_of({"hw.ipynb": bytes(FILE_LIMIT + 1)})


def linked() -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as made:
        member = zipfile.ZipInfo("hw.ipynb")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(member, "/etc/passwd")
    return raw.getvalue()


def locked() -> bytes:
    raw = bytearray(zip_of({"hw.ipynb": NOTEBOOK}))
    raw[6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    return bytes(raw)


def with_a_wrong_sum() -> bytes:
    raw = bytearray(zip_of({"hw.ipynb": NOTEBOOK}, zipfile.ZIP_STORED))
    raw[100] ^= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "broken"),
        (b"PK\x03\x04 and then nothing", "broken"),
        (zip_of({"hw.ipynb": NOTEBOOK})[:-30], "broken"),
        (with_a_wrong_sum(), "broken"),
        (zip_of({}), "empty zip"),
        (zip_of({"report.pdf": b"%PDF"}), "report.pdf"),
        (bomb(), "larger than 16 MB"),
        (linked(), "link"),
        (locked(), "password"),
        (zip_of({"hw.ipynb": NOTEBOOK}, zipfile.ZIP_LZMA), "unusual"),
        (zip_of({"a.zip": zip_of({"b.zip": zip_of({"hw.ipynb": NOTEBOOK})})}), "too deep"),
        (zip_of({"/".join("abcdefgh") + ".ipynb": NOTEBOOK}), "too deep"),
        (zip_of({f"{number}.ipynb": NOTEBOOK for number in range(50)}), "50 notebooks"),
    ],
)
def test_a_zip_that_cannot_be_graded_costs_nobody_else(put, content, words):
    put("kim.zip", content)
    put("lee.ipynb")
    students = found(put, "kim", "lee")
    with pytest.raises(IntakeError) as raised:
        students["kim"].read()
    assert words in str(raised.value)
    assert "nothing was handed in" not in str(raised.value)
    assert students["lee"].read() == NOTEBOOK
    assert not (put.folder.parent / "etc").exists()


def test_a_way_out_of_a_zip_leads_nowhere(put):
    put("kim.zip", zip_of({"../../lee.ipynb": NOTEBOOK, "/etc/passwd.ipynb": OTHER}))
    put("lee.ipynb", OTHER)
    students = found(put, "kim", "lee")
    assert students["lee"].read() == OTHER
    assert students["kim"].read() == NOTEBOOK
    assert sorted(path.name for path in put.folder.iterdir()) == ["kim.zip", "lee.ipynb"]


def test_a_table_of_contents_that_is_too_long_is_not_read(put, monkeypatch):
    monkeypatch.setattr(zips, "DIRECTORY_LIMIT", 1000)
    put("kim.zip", zip_of({f"{number}.txt": b"" for number in range(100)}))
    put("lee.ipynb")
    assert "too large" in found(put, "kim", "lee")["kim"].reason


def test_links_are_not_followed(put, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.ipynb").write_bytes(NOTEBOOK)
    (put.folder / "kim").symlink_to(outside)
    (put.folder / "lee.zip").symlink_to(outside / "secret.ipynb")
    put("park/x.txt", b"")
    (put.folder / "park" / "hw.ipynb").symlink_to(outside / "secret.ipynb")
    students = found(put, "kim", "lee", "park")
    for name in ("kim", "lee", "park"):
        with pytest.raises(IntakeError, match="link"):
            students[name].read()


@pytest.mark.parametrize("inside", ["{}.ipynb", "{}/14_homework.ipynb", "deep/{}/hw.ipynb", "{}.zip"])
@pytest.mark.parametrize("holder", ["class.zip", "hw14/", "hw14/section A/"])
def test_a_class_beside_a_late_file(put, inside, holder):
    """Without a class list."""
    class_of = [f"student {number:02}" for number in range(25)]
    ways = {inside.format(name): NOTEBOOK + b" " * number for number, name in enumerate(class_of)}
    ways = {way: zip_of({"hw.ipynb": raw}) if way.endswith("zip") else raw for way, raw in ways.items()}
    if holder.endswith("zip"):
        put(holder, zip_of(ways))
    else:
        for way, content in ways.items():
            put(holder + way, content)
    put("late.ipynb")
    students = found(put)
    assert sorted(students) == ["late", *class_of]
    assert all(student.read().strip() == NOTEBOOK and not student.several for student in students.values())


def test_a_students_copy_of_the_course_is_not_a_class(put):
    for number in range(12):
        put(f"kim/course/notebooks/{number:02}.ipynb", OTHER)
    put("kim/course/notebooks/14_homework.ipynb")
    put("lee.ipynb")
    students = found(put)
    assert sorted(students) == ["kim", "lee"]
    assert students["kim"].read() == NOTEBOOK
    assert not students["kim"].several


@pytest.mark.parametrize("names_in", [["ada", "bob"], ["ada", "bob", "cho"]])
def test_what_may_be_several_students_is_told(put, names_in):
    for name in names_in:
        put(f"group/{name}.ipynb", NOTEBOOK + name.encode())
    put("late.ipynb")
    students = found(put)
    assert students["group"].several
    assert "--roster" in students["group"].notes[-1]
    assert sorted(found(put, *names_in, "late")) == sorted([*names_in, "late"])
    assert not any("--roster" in note for student in found(put, *names_in, "late").values() for note in student.notes)


def test_students_stand_where_all_files_say(put):
    put("Kim/hw.ipynb")
    put("Kim/draft.ipynb", OTHER)
    put("Park/report.docx", b"PK\x03\x04")
    put("Lee/hw.zip", b"broken")
    (put.folder / "Cho").mkdir()
    put("roster.csv", b"student")
    students = found(put)
    assert sorted(students) == ["Cho", "Kim", "Lee", "Park"]
    assert found.nobodys == ["roster.csv"]
    for name, words in {"Cho": "empty folder", "Lee": "broken", "Park": "report.docx"}.items():
        assert words in students[name].reason
    assert students["Kim"].read() == NOTEBOOK
    assert not any("hw.zip" in note for note in students["Kim"].notes)


@pytest.mark.parametrize("holder", ["class.zip", "class/"])
def test_a_broken_zip_is_told_to_its_student_only(put, holder):
    ways = {"kim.ipynb": NOTEBOOK, "lee.zip": b"broken", "park/deep/hw.zip": zip_of({"a/hw.ipynb": NOTEBOOK})}
    if holder.endswith("zip"):
        put(holder, zip_of(ways))
    else:
        for way, content in ways.items():
            put(holder + way, content)
    students = found(put)
    assert sorted(students) == ["kim", "lee", "park"]
    assert "broken" in students["lee"].reason
    assert students["kim"].read() == students["park"].read() == NOTEBOOK
    assert not any("lee" in note for name in ("kim", "park") for note in students[name].notes)


@pytest.mark.parametrize("way", ["{}_assignsubmission_file_/hw.ipynb", "{}_assignsubmission_file_hw.ipynb"])
def test_two_students_of_one_name_in_moodle(put, way):
    put(way.format("Kim_101"))
    put(way.format("Kim_202"), OTHER)
    put(way.format("Lee_303"))
    students = found(put)
    assert sorted(students) == ["Kim_101", "Kim_202", "Lee"]
    assert (students["Kim_101"].read(), students["Kim_202"].read()) == (NOTEBOOK, OTHER)
    assert "Moodle has 2 students of this name" in found(put, "Kim", "Lee")["Kim"].notes
    assert found(put, "Kim", "Lee")["Lee"].notes == []


def test_a_students_number_is_not_that_of_a_copy(put):
    put("김민지(2026001).ipynb")
    put("김민지(2026002).ipynb", OTHER)
    students = found(put)
    assert sorted(students) == ["김민지(2026001)", "김민지(2026002)"]
    assert all(student.notes == [] for student in students.values())
    listed = found(put, "김민지(2026001)", "김민지(2026002)")
    assert (listed["김민지(2026001)"].read(), listed["김민지(2026002)"].read()) == (NOTEBOOK, OTHER)


def test_words_of_a_name_in_another_order(put):
    put("Minji Kim_7_assignsubmission_file_/hw.ipynb")
    put("jun lee.ipynb")
    students = found(put, "Kim, Minji", "Lee, Jun", "Park, Ara")
    assert students["Kim, Minji"].read() == students["Lee, Jun"].read() == NOTEBOOK
    put("Lee, Jun.ipynb", OTHER)
    students = found(put, "Kim, Minji", "Lee, Jun")
    assert students["Lee, Jun"].read() == OTHER


ODD = [
    "{}.ipynb.crdownload",
    "{}.ipynb.part",
    "{}.ipynb~",
    "{}.ipynb.bak",
    "{}.ipynb.webarchive",
    "{}.ipnyb",
    "{}.ipynb_",
    "{}.ipynb.",
]


@pytest.mark.parametrize("way", [*ODD, "{}.txt"])
@pytest.mark.parametrize("name", ["a", "kim min"])
def test_what_holds_a_notebook_is_graded_whatever_it_is_called(put, way, name):
    put(way.format(name))
    put("bob.ipynb")
    for students in (found(put, name, "bob"), *([found(put)] if way in ODD else [])):
        assert students[name].read() == NOTEBOOK
        assert students[name].notes == [f"handed in as {way.format(name)}"]


@pytest.mark.parametrize("way", [*ODD, "{}.rar", "{}.7z", "{}.alz", "{}.egg", "{}.tar.gz", "{}.ipynb.url", "{}.mhtml"])
@pytest.mark.parametrize("name", ["a", "kim min"])
def test_what_is_plainly_from_a_student_has_a_row(put, way, name):
    put(way.format(name), b"\x00\x01 of another kind")
    put("bob.ipynb")
    for students in (found(put), found(put, name, "bob")):
        assert way.format(name) in students[name].reason
        assert found.nobodys == []


def test_a_notebook_counts_before_what_an_editor_left_of_it(put):
    put("kim.ipynb")
    put("kim.ipynb~", NOTEBOOK + b" ")
    put("kim.ipynb.bak", NOTEBOOK + b"  ")
    assert found(put)["kim"].read() == NOTEBOOK


def test_a_zip_that_is_called_a_notebook_is_read(put):
    inside = zip_of({"kim/hw.ipynb": NOTEBOOK, "report.pdf": b"%PDF"})
    put("kim.ipynb", inside)
    put("class.zip", zip_of({"lee.ipynb": inside, "park.ipynb": NOTEBOOK}))
    put("office.ipynb", zip_of({"word/document.xml": b"<"}))
    put("broken.ipynb", inside[:-40])
    put("bomb.ipynb", bomb())
    students = found(put, "kim", "lee", "park", "office", "broken", "bomb")
    assert all(students[name].read() == NOTEBOOK for name in ("kim", "lee", "park"))
    assert students["kim"].notes == ["handed in as kim.ipynb/kim/hw.ipynb", "also handed in, not graded: kim.ipynb/report.pdf"]
    for name in ("office", "broken"):
        with pytest.raises(IntakeError, match="a zip or an Office document"):
            parse(students[name].read())
    with pytest.raises(IntakeError, match="larger than 16 MB"):
        students["bomb"].read()
    assert found(put)["kim"].read() == NOTEBOOK


def test_an_empty_folder_is_told(put):
    (put.folder / "Kim Minji_1_assignsubmission_file").mkdir()
    put("lee.ipynb")
    assert "empty folder" in found(put, "Kim Minji", "lee")["Kim Minji"].reason


# --- lists -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_class_list_as_excel_saves_it(tmp_path, encoding, separator, line):
    path = tmp_path / "roster.csv"
    rows = [["No", " Student ", "mail"], ["1", "김민지", "a@b"], ["2", " 이서연 ", ""], [], ["3", '"Kim, Min"', ""]]
    path.write_bytes(line.join(separator.join(row) for row in rows).encode(encoding))
    assert class_tables.read_roster(path) == (["김민지", "이서연", "Kim, Min"], [])


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16"])
@pytest.mark.parametrize("head", ["", "student\n"])
def test_a_list_of_one_column(tmp_path, encoding, head):
    path = tmp_path / "roster.txt"
    path.write_bytes(f"{head}김민지\nkim min\n\nlee, seo\n".encode(encoding))
    assert class_tables.read_roster(path) == (["김민지", "kim min", "lee, seo"], [])


def test_bad_rows_cost_only_themselves(tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(
        'mail,student\nx,ada\nx\nx,\nx,<b>\nx,../bob\nx,.hidden\nx,Ada \nx,kim,min,jun\nx,"lee\nx,cho\n', encoding="utf-8"
    )
    roster, odd = class_tables.read_roster(path)
    assert [name for name in roster if name in ("ada", "cho")] == ["ada", "cho"]
    for words in ("row 3", "row 4", "row 5", "row 7", "row 8", "row 9"):
        assert sum(words in line for line in odd) == 1, words
    assert any("row 8: 'Ada' is on the list already" in line for line in odd)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"name,mail\nada,x\n", "no column 'student'"),
        (b"name;mail\nada;x\n", "no column 'student'"),
        (b"student\n", "names no student"),
        (b"PK\x03\x04xlsx", "Excel workbook"),
        (b"a\0d\0a\0", "neither UTF-8"),
        (b"student\nRen\xe9e\n", "neither UTF-8"),
        (b"student\n<b>\n", "looks like HTML"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_in_words(tmp_path, content, words):
    path = tmp_path / "roster.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        class_tables.read_roster(path)


@pytest.mark.parametrize("column", ["student", "remark"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_long_cell_costs_only_its_row(tmp_path, column, quote):
    path = tmp_path / "roster.csv"
    long = quote + "가" * 150_000 + quote
    row = f"{long},x" if column == "student" else f"ada,{long}"
    path.write_text(f"student,remark\n{row}\nbob,y\n", encoding="utf-8")
    roster, odd = class_tables.read_roster(path)
    assert roster == (["bob"] if column == "student" else ["ada", "bob"])
    assert "row 2: a cell has 150,000 characters" in odd[0]
    assert all(len(line) < 300 for line in odd)


def test_a_long_cell_among_times(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text(f"student,timestamp\nada,{'1' * 200_000}\n{'b' * 200_000},x\n,\ncho,2026-12-01 18:00Z\n", encoding="utf-8")
    times, odd = class_tables.read_times(path)
    assert times.moments == {"cho": datetime(2026, 12, 1, 18)}
    assert "not understood" in times.notes["ada"]
    assert all(len(line) < 300 for line in [*odd, *times.notes.values()])


@pytest.mark.parametrize("encoding", ["utf-8", "cp949", "utf-16"])
def test_null_characters_of_a_list_are_taken_out(tmp_path, encoding):
    path = tmp_path / "roster.csv"
    path.write_bytes("student,mail\n김\0민지,a\nlee\0,b\n\0\n".encode(encoding))
    assert class_tables.read_roster(path) == (["김민지", "lee"], ["roster.csv, null characters were taken out"])


@pytest.mark.parametrize("heading", ["이름", "name", "학번", "성명", "student_id", "Student ID", "NAME", "student"])
@pytest.mark.parametrize("end", ["", ",", ",,"])
def test_headings_of_a_list_of_one_column(tmp_path, heading, end):
    path = tmp_path / "roster.csv"
    path.write_text(f"{heading}{end}\n김민지{end}\n20260042{end}\n", encoding="utf-8")
    assert class_tables.read_roster(path) == (["김민지", "20260042"], [])


@pytest.mark.parametrize(
    "text", ['"Park, Jiho"\n"Cho, Ara"\n', "Park, Jiho\nCho, Ara\n", "Park, Jiho\n\n  Cho,  Ara\n", "Park, Jiho,\nCho, Ara,\n"]
)
def test_surnames_first_a_student_a_line(tmp_path, text):
    path = tmp_path / "roster.txt"
    path.write_text(text, encoding="utf-8")
    assert class_tables.read_roster(path) == (["Park, Jiho", "Cho, Ara"], [])


@pytest.mark.parametrize(
    "text", ["학번,이름\n1,김\n", "park,p@x.kr\n", "park, p@x.kr\n", "name, group\nPark, A\n", "park\tA\n", "park;A\n"]
)
def test_a_table_without_the_column_says_what_to_do(tmp_path, text):
    path = tmp_path / "roster.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"no column 'student': its first line is .*; name a column there 'student'"):
        class_tables.read_roster(path)


@pytest.mark.parametrize("rows", [["ada,soon", "ada,2026-12-01 18:00Z"], ["ada,2026-12-01 18:00Z", "Ada,KST"]])
def test_one_of_two_times_that_is_not_understood(tmp_path, rows):
    path = tmp_path / "times.csv"
    path.write_text("\n".join(["student,timestamp", *rows]), encoding="utf-8")
    times, _ = class_tables.read_times(path)
    assert times.moments == {"ada": datetime(2026, 12, 1, 18)}
    assert times.notes["ada"].startswith("one of several times in times.csv is not understood; the other counts")


@pytest.mark.parametrize("word", ["", "-", "—", "Not submitted", "미제출", "N/A", "n/a", "NaN", "None"])
def test_words_for_no_time(tmp_path, word):
    path = tmp_path / "times.csv"
    path.write_text(f"student,timestamp\nada,{word}\n", encoding="utf-8")
    times, odd = class_tables.read_times(path)
    assert (times.moments, times.notes, odd) == ({}, {}, [])


def test_times_find_their_students(tmp_path):
    def students() -> dict[str, Student]:
        made = [Student(name, True, name, reason="handed in") for name in ("Kim, Minji", "Lee, Jun", "Jun Lee", "Ada")]
        return {student.name: student for student in [*made, Student("Bob", True, "Bob")]}

    when = datetime(2026, 12, 1, 18)
    shown = {names.fold(name): name for name in ("minji KIM", "lee jun", "nobody else")}
    found = students()
    for student in found.values():
        student.file = object() if student.name != "Bob" else None
    odd = inbox.set_times(list(found.values()), class_tables.Times(dict.fromkeys(shown, when), {}, shown))
    assert odd == [
        "times of students who are not found: lee jun, nobody else",
        "no time, so lateness is not known: Lee, Jun, Jun Lee, Ada",
    ]
    assert {name for name, student in found.items() if student.handed_in} == {"Kim, Minji"}
    assert not any(student.notes for student in found.values())
    assert inbox.set_times(list(students().values()), class_tables.Times()) == []


def test_a_bad_time_costs_only_itself(tmp_path):
    path = tmp_path / "times.csv"
    path.write_text(
        "timestamp,student\n2026-12-01 18:00 KST,ada\n2026-12-01 18:00 +0900,Bob\n-,cho\n2026-12-01 09:30 UTC,bob\n",
        encoding="utf-8",
    )
    times, odd = class_tables.read_times(path)
    assert times.moments == {"bob": datetime(2026, 12, 1, 9, 30)}
    assert "KST" in times.notes["ada"]
    assert "several times" in times.notes["bob"]
    assert len(odd) == 1


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-12-01 18:00 +0900", 9),
        ("2026-12-01T18:00:00+09:00", 9),
        ("2026-12-01 18:00:00.5 +9", 9),
        ("2026/12/01 6:00 PM -0330", 21),
        ("2026-12-01T18:00Z", 18),
        ("2026-12-01 18:00 utc", 18),
        ("Tuesday, 1 December 2026, 6:00 PM GMT", 18),
        ("2026-12-01 18:00 GMT+9", 9),
        ("2026-12-01 18:00 UTC-05:00", 23),
        ("2026-12-01 18:00 Asia/Seoul", 9),
        ("2026-12-01 18:00 America/New_York", 23),
        ("2026년 12월 1일 화요일, 오후 6:00 +0900", 9),
        ("2026. 12. 1. 오전 9:00 UTC", 9),
        ("Tue Dec 01 2026 18:00:00 GMT+0900 (Korean Standard Time)", 9),
        ("Tue Dec  1 18:00:00 2026 +0900", 9),
        ("20261201T180000Z", 18),
        ("20261201T1800+0900", 9),
        ("2026년 12월 1일 18시 30분 +0900", 9),
        ("2026년 12월 1일 (화) 오후 6시 UTC", 18),
        ("2026-12-01T18:00:00+09:00[Asia/Seoul]", 9),
        ("2026-12-01 18:00 Asia/Seoul (KST)", 9),
    ],
)
def test_times_that_are_understood(text, hour):
    assert moment(text).replace(minute=0, microsecond=0) == datetime(2026, 12, 1, hour)


ZONES = ["KST", "PST", "CET", "CST", "EST", "JST", "kst", "Seoul", "+25:00", "+09:75", "Mars/Base", "../UTC", "A", "Z Z"]
ZONES += ["(KST)", "(PST)", "[PST]", "KST (Korea)", "(Asia/Seoul)"]
VAGUE = ["2026", "12-01", "18:00", "tomorrow", "tomorrow 18:00", "2026-12-01", "12-01 18:00", "2026 18:00", "Dec 2026 18:00"]
VAGUE += ["2026-12 18:00", "Tuesday 18:00", "1 Dec 18:00", "26-12-01 18:00", "01/12/2026 18:00", "12/31/2026 18:00", "noon", ""]
VAGUE += [
    "2026-13-01 18:00",
    "2026-02-30 18:00",
    "2026-12-01 25:00",
    "1764579600",
    "9999-12-31 23:59 -0900",
    "KST 2026-12-01 18:00",
    "Tue Dec  1 18:00:00 KST 2026",
    "13/12/2026 18:00",
    "2026-03-29 02:30 Europe/Berlin",
    "2026-10-25 02:30 Europe/Berlin",
    "9" * 300,
]


@pytest.mark.parametrize("text", [*VAGUE, *(f"2026-12-01 18:00 {zone}" for zone in ZONES)])
@pytest.mark.filterwarnings("error")
def test_times_that_are_refused(text):
    with pytest.raises(UsageError, match=r"write it as in '2026-12-01 18:00 \+0900'"):
        moment(text)
