"""Workflows that are killed, or lose an answer, and run again: a seeded sample of what `invoke bench.crash` tries as a whole."""

import pytest

from ops.core.aws import lost_answers
from ops.datasets import bucket_setup
from tests.crash import workflows
from tests.crash.faulty_calls import Fault
from tests.crash.trials import Place, Ring, Workflow, draw_faults


@pytest.fixture
def place(sandbox, control_sandbox):
    place = Place(sandbox, "crashes", control_sandbox)
    yield place
    workflows.remove_roles(place)
    workflows.remove_bucket(place)


@pytest.mark.parametrize(("name", "count"), [("pictures", 10), ("network", 5), ("old", 3), ("function", 4)])
def test_hurt_workflows_end_as_unhurt_ones(place, name, count):
    ring = next(ring for ring in workflows.list_rings() if ring.name == name)
    assert list(ring.measure(place)) == []
    drawn = draw_faults(
        {title: [f for f in some if not f.throttled] for title, some in ring.list_faults().items()}, count, seed=18
    )
    outcomes = list(ring.run_rounds(place, drawn))
    assert len(outcomes) == count
    assert [one for one in outcomes if one.wrong or one.stopped] == []


def be_content_with_a_bucket():
    """A plan as people write it first: what exists is taken to be complete."""
    whole = bucket_setup.steps

    def steps(have, settings):
        if not have.exists:
            yield from whole(have, settings)

    bucket_setup.steps = steps


def test_naive_workflow_is_caught_by_a_kill(place):
    naive = Workflow("data.up", "s3", prepare=workflows.remove_bucket, replace=be_content_with_a_bucket)
    ring = Ring("naive", [naive], setup=workflows.plant_roles)
    assert list(ring.measure(place)) == []
    last = len(ring.references["data.up"].run.calls) - 1
    found = list(ring.run_rounds(place, {"data.up": [Fault(0, kill="after"), Fault(last, kill="after")]}))
    assert '+ bucket\'s policy {"absent"' in found[0].wrong
    assert found[1].wrong == ""


def trust_the_retries():
    lost_answers.watch = lambda *_, **__: None
    lost_answers.settle = lambda account, change, send: send()


def test_naive_workflow_is_caught_by_a_lost_answer(place):
    """The SDK sends a create without a token again: there are two networks."""
    naive = Workflow("net.up", "ec2", replace=trust_the_retries)
    ring = Ring("naive", [naive, Workflow("net.down --yes", "ec2", name="net.down")], setup=workflows.plant_stack)
    list(ring.measure(place))
    (create,) = [n for n, call in enumerate(ring.references["net.up"].run.calls) if "CreateVpc " in call]
    (found,) = ring.run_rounds(place, {"net.up": [Fault(create, lost=True)]})
    assert "Vpcs" in found.wrong
    assert Workflow("net.down --yes", "ec2").run(place).code == 0
