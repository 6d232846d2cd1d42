"""What grading raises, and who is told; each message says what is wrong and what to do."""


class AssignmentError(ValueError):
    """The instructor's notebook or the release is not what grading needs. The message says what and where."""


class IntakeError(ValueError):
    """A submission that cannot be read. The message is the reason that its author is told."""


class SandboxError(RuntimeError):
    """No sandbox here, or it could not be started. The message says why and what to do."""


class UsageError(ValueError):
    """Something about the command is wrong; nothing was graded. The message says what to do."""


class WorkersError(RuntimeError):
    """No workers. The message says why and what to do."""


def first_line(error: object) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
