"""The library's error type."""


class InputError(ValueError):
    """An invalid input: one sentence that says what is wrong with a text, file or question and where (file, line, column)."""
