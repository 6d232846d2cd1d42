"""The techniques of the lessons in their reusable form; each file names the lesson that builds it from scratch."""
