"""The sandbox's score: its answers against those that are known of AWS."""

import json

from tests.in_process import run_invoke


def test_answers_are_those_of_aws():
    """Each difference has its reason, in score.REASONS, and no request is accepted that AWS refuses."""
    ran = run_invoke(["sandbox.fidelity", "--json"], {})
    found = json.loads(ran.out)
    assert found["refusals"] >= 156
    assert found["accepted"] == 0
    assert [one for one in found["differences"] if not one["reason"]] == []
    assert ran.code == 0
