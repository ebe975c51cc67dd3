"""What the library refuses to read or to answer."""


class InputError(ValueError):
    """One sentence that says what is wrong with a text, a file or a question, with its place: file, line, column."""
