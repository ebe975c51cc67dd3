"""What make audit says of pip-audit's answers: flaws, none, or that no source could be reached."""

import json

import pytest

from tests import advisories

FLAW = {"name": "Pillow", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["2.0", "2.1"]}, {"id": "CVE-2", "fix_versions": []}]}  # fmt: skip
CLEAN = {"name": "numpy", "version": "2.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "not on PyPI"}


def make_program(folder, answers):
    """A stand-in for pip-audit that prints the answer of the source it is asked of, or an error."""
    program = folder / "pip-audit"
    lines = [f"if [ $2 = {source} ]; then echo '{json.dumps(answer)}'; exit; fi" for source, answer in answers.items()]
    program.write_text(
        "\n".join(["#!/bin/sh", *lines, "echo Traceback >&2; echo ConnectionError: refused >&2; exit 1"])
    )
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ({"pypi": {"dependencies": [FLAW, CLEAN, SKIPPED]}}, 1, "Pillow 1.0: CVE-1, fixed in 2.0, 2.1\n"),
        ({"pypi": {"dependencies": [CLEAN, SKIPPED]}}, 0, "No known flaw in 1 packages, says pypi.\n"),
        (
            {"osv": {"dependencies": [CLEAN]}},
            0,
            "pypi: ConnectionError: refused\nNo known flaw in 1 packages, says osv.\n",
        ),
        (
            {"pypi": {"dependencies": [SKIPPED]}, "osv": {"dependencies": []}},
            0,
            "pypi: it knows none of the packages\nosv: it knows none of the packages\nNo advisory source can be reached: the dependencies were NOT audited.\n",
        ),
        (
            {},
            0,
            "pypi: ConnectionError: refused\nosv: ConnectionError: refused\nNo advisory source can be reached: the dependencies were NOT audited.\n",
        ),
    ],
    ids=["flaw", "none", "second", "mirror", "unreachable"],
)
def test_audit_says_what_it_knows(tmp_path, capsys, answers, code, said):
    assert advisories.main(make_program(tmp_path, answers)) == code
    assert capsys.readouterr().out == said
