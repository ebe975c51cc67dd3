"""The library's one error, and how a command words it."""

from iampolicy.errors import InputError
from ops.core.errors import FAILED, OpsError
from ops.core.task import explain_error


def test_input_error_becomes_an_ops_error():
    explained = explain_error(InputError("f.json:1:2: a key\x1b[31m"))
    assert isinstance(explained, OpsError)
    assert explained.code == FAILED
    assert str(explained).startswith("f.json:1:2: a key")
    assert "\x1b" not in str(explained)


def test_other_value_errors_keep_their_traceback():
    error = ValueError("a fault of the program")
    assert explain_error(error) is error
