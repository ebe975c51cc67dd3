"""The example of the library's page runs, and prints what the page says."""

import contextlib
import io
import re

from ops.core.paths import ROOT

README = (ROOT / "iampolicy" / "README.md").read_text()


def test_readme_example_prints_what_the_page_says():
    code, printed = re.search(r"```python\n(.*?)```\n```\n(.*?)```", README, re.DOTALL).groups()
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == printed
