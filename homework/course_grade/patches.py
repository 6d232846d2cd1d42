"""What nbgrader 0.9.6 and what it stands on do otherwise than grading needs. After an update of theirs, look here first.

Whatever this package overwrites in them, or uses of them without documentation, is here. (What is changed within a student's
kernel, which is IPython's, stands in `kernel` and `probe`.)
"""

import logging
import re
import warnings
from copy import deepcopy
from pathlib import Path

import nbgrader.api
from alembic.script import ScriptDirectory
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbgrader.converters import GenerateFeedback
from nbgrader.coursedir import CourseDirectory
from nbgrader.dbutil import ALEMBIC_DIR
from nbgrader.preprocessors import GetGrades
from sqlalchemy.exc import SAWarning
from traitlets.config import Config

# nbgrader 0.9.6 builds rows in an order that SQLAlchemy 2 remarks on, once a student.
warnings.filterwarnings("ignore", category=SAWarning, module="nbgrader")

# nbgrader 0.9.6 starts the command `alembic` for each new gradebook, to ask what its own folder says. That takes seconds, and
# fails where the environment's programs are not on PATH.
nbgrader.api.get_alembic_version = lambda: ScriptDirectory(ALEMBIC_DIR).get_current_head()

# nbgrader's preprocessors log to the terminal, through traitlets. This logger, which they are given instead, says nothing.
QUIET = logging.getLogger("course_grade.nbgrader")
QUIET.addHandler(logging.NullHandler())
QUIET.propagate = False

# Pygments 2 takes the square or the cube of the length of such runs: minutes for a page of tabs, or of `a.a.a.a`.
SLOW_CODE = re.compile(r"\S{200}|\s{200}")


def colour_if_fast(cell: NotebookNode) -> None:
    """Have code shown without colours where colouring takes too long.

    nbconvert 7.17 has no setting for one cell. It looks up a cell's language under the name where its own preprocessor for
    magics notes it.
    """
    if SLOW_CODE.search(cell.source):
        cell.metadata["magics_language"] = "text"


def feedback_exporter(root: Path, url: str) -> HTMLExporter:
    """What makes nbgrader's feedback pages of a gradebook, for all students.

    nbgrader 0.9.6 has this only as a command over files of its own layout. The command's templates and preprocessors are taken,
    without nbconvert's own: one of those would choose a cell's language by the magic in it, after `colour_if_fast` has. HTML is
    not sanitised again, since what students wrote was defused on its way in.
    """
    course = CourseDirectory(config=Config({"CourseDirectory": {"root": str(root), "db_url": url}}))
    command = GenerateFeedback(coursedir=course)
    config = deepcopy(command.config)
    config.HTMLExporter.sanitize_html = False
    exporter = HTMLExporter(config=config, default_preprocessors=[])
    for kind in command.preprocessors:
        exporter.register_preprocessor(kind(log=QUIET, config=config) if kind is GetGrades else kind, enabled=True)
    return exporter
