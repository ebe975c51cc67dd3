"""The daily work on the box, and what is said when the line breaks in the middle of it."""

import pytest

from ops.box import file_sync
from ops.core.errors import OpsError


def test_names_that_sha256sum_escapes_are_rejected(tmp_path):
    (tmp_path / "a\nb").write_text("x")
    with pytest.raises(OpsError, match="Rename it"):
        file_sync.build_file_set(tmp_path)
