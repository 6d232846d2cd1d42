"""Grade a folder of notebooks that nobody trusts: `course-grade INBOX --out DIR`.

nbgrader keeps what it is good at: the gradebook, partial credit, grading by hand (formgrader), feedback, export. Here is what
it lacks, from the bottom up: `sandbox` (a kernel that can touch nothing), `assignment` (what was handed out and what is
asked), `intake` (a submission becomes our notebook with the student's answers), `kernel` (the line to a kernel), `execute`
(runs a notebook, with limits), `score` (compares values outside the kernel), `job` (all of that for one student, without side
effects), `workers` (many jobs at once), `gradebook` (the only place that writes), `cli`. `probe` is what hidden tests call
inside a kernel.
"""

import sys

# jsonschema, which reads notebooks' schema, would compile a grammar for addresses that no notebook has: a second a process.
sys.modules.setdefault("rfc3987_syntax", None)
