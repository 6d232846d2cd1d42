"""Grade a folder of notebooks that nobody trusts: `course-grade INBOX --out DIR`.

nbgrader keeps what it is good at: the gradebook, partial credit, grading by hand (formgrader), feedback, export. Here is what
it lacks, from the ground up; a module imports only modules before it in this list.

- ``errors``: what is raised, and who is told.

Within a student's kernel; nothing else of this package is seen there:

- ``values``: one form for each value, as JSON.
- ``probe``: what hidden tests call; keeps the kernel working whatever cells before them have set.

What is asked:

- ``patches``: everything that is changed in nbgrader and nbconvert, with the reason and the version.
- ``assignment``: the released notebook, and the instructor's with solutions and hidden tests.

Intake, from a file to our notebook with the student's answers:

- ``defusing``: text, Markdown and pictures without what could act on the page that shows them.
- ``submission``: a submitted file, which may be anything, and the cells of the notebook in it.
- ``released``: the released cells, and what each can be known by.
- ``match``: which submitted cell stands for which released one, whatever an editor has lost.
- ``intake``: grafts the answers that were found into the released notebook.

Inputs, from what an instructor has to students with one file each:

- ``names``: one normal form of students' names.
- ``times``: a time, in whatever form it was written.
- ``class_tables``: the class list and the times of handing in, as an instructor has them.
- ``handed_in_file``: one file that was handed in, and what its name says.
- ``zips``: one zip, read where it is.
- ``inbox_files``: all files of the inbox, those in folders and zips included.
- ``owners``: whose a file is.
- ``students``: a student, all that was handed in, and which file of it counts.
- ``inbox``: students of a class list and of an inbox, with their keys and times.

Session, from a notebook to points:

- ``sandbox``: a kernel that can touch nothing (``kernels/sandbox`` builds its walls).
- ``kernel``: the line to a kernel.
- ``execute``: runs a notebook, with limits.
- ``score``: compares values outside the kernel.
- ``job``: all of that for one student, without side effects.
- ``workers``: many jobs at once.

Gradebook, the only place that writes:

- ``gradebook``: nbgrader's gradebook, graded notebooks, feedback and the table of grades.

The command:

- ``options``: what it is given, and what an earlier run has left.
- ``cli``: `course-grade` itself.
"""

import sys

# jsonschema, which reads notebooks' schema, would compile a grammar for addresses that no notebook has: a second a process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None is Python's own mark of what is not to be imported
