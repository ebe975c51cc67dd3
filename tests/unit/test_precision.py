"""bf16 by evidence: what is rounded, what is counted, and what that proves."""

import pytest

pytestmark = pytest.mark.xdist_group("torch")  # one worker loads it for all these files


@pytest.fixture(scope="module", autouse=True)
def load_torch():
    """Load torch when the first test of this file runs: at the collection each of pytest's workers would load it."""
    global nn, precision, torch
    import precision
    import torch
    from torch import nn


def test_simulated_bf16_rounds_and_restores_the_weights():
    """Within simulate_bf16 weights and inputs are rounded; afterwards all is as before."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)).eval()
    pictures, weight = torch.rand(5, 3, 8, 8), network[0].weight.clone()
    with torch.no_grad():
        exact = network(pictures)
        with precision.simulate_bf16(network):
            assert torch.equal(network[0].weight, weight.bfloat16().float())
            coarse = network(pictures)
        assert torch.equal(network[0].weight, weight)
        assert torch.equal(network(pictures), exact)
    off = (coarse - exact).abs().max()
    assert 0 < off < 0.05


def answers(*best):
    return [{"number": number, "top": [label]} for number, label in enumerate(best)]


def test_agreement_and_correct_predictions_are_counted():
    found = precision.count_agreement(answers(0, 1, 1, 0), answers(0, 1, 0, 0), [0, 1, 0, 1])
    assert found == {"pictures": 4, "agree": 3, "right_fp32": 2, "right_bf16": 3}


@pytest.mark.parametrize(
    ("pictures", "agree", "fp32", "bf16", "proved"),
    [
        (1000, 1000, 900, 900, True),
        (1000, 995, 900, 898, True),
        (1000, 994, 900, 900, False),
        (1000, 999, 900, 897, False),
        (199, 199, 199, 199, False),
        (200, 199, 190, 191, True),
    ],
)
def test_agreement_decides_whether_bf16_is_allowed(pictures, agree, fp32, bf16, proved):
    counts = {"pictures": pictures, "agree": agree, "right_fp32": fp32, "right_bf16": bf16}
    wanted = ["fp32", "bf16"] if proved else ["fp32"]
    assert precision.decide_precisions({"metrics": {"test": {"precision": counts}}}) == wanted


def test_card_without_evidence_allows_fp32_only():
    assert precision.decide_precisions({"metrics": {"test": {}}}) == ["fp32"]
