"""The small shared package of the course: data, models, techniques, measures, training, plots, checks and records.

Rooms are imported by name, ``from course_utils import data, train``; importing the package alone imports nothing.
A room imports only rooms that stand before it in this list: ``files``, ``valid``, ``runtime``, ``parallel``, ``data``,
``audit``, ``augment``, ``models``, ``techniques``, ``metrics``, ``calibration``, ``detection``, ``precision``,
``checkpoint``, ``train``, ``experiment``, ``plots``, ``check``, ``record``.
"""

__version__ = "0.2.0"
