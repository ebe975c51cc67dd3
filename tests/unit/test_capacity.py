"""Capacity: AWS's formulas by table, what the original's settings come to, and the picture."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ops.capacity import coherence, model
from ops.capacity.summary import as_data, describe_plan, describe_source
from ops.commands.sm_capacity import parse_rate_or_time
from ops.core.errors import FINDINGS, AwsError, OpsError
from ops.core.paths import ROOT
from ops.releases.load_test import LoadTestResult
from ops.reports import capacity_chart
from tests.conftest import HOME, Cli, settings_of

BY_HAND = ("--rps", "11", "--latency-ms", "1268.95")  # the duration is that of the original's screenshot
ON_AMX = LoadTestResult(
    release="0123456789abcdef",
    vcpus=2,
    cpu="Xeon with AMX",
    precision="bf16",
    requests_per_second=70.0,
    p50_ms=56.0,
    p99_ms=80.0,
    concurrency=4,
    date="2026-11-22",
)
RATES = st.floats(0.001, 1e6)


@pytest.fixture(scope="module")
def original():
    return settings_of(ROOT / "original.example.yaml")


def planned(settings, rps=11.0, ms=1268.95, traffic=None):
    measured = model.from_flags(rps, ms, settings.endpoint.instance_type)
    return model.plan(measured, settings, traffic), measured


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def said(plan, measured):
    return [finding.message for finding in model.findings(plan, measured)]


def ran(*words):
    """With no AWS that could be asked."""
    settings = HOME / "nowhere.yaml"
    original = yaml.safe_load((ROOT / "original.example.yaml").read_text())
    settings.write_text(yaml.safe_dump(original | {"aws": {"config_file": str(HOME / "no" / "config")}}))
    return Cli(settings)("sm.capacity", *words, ok=False)


@pytest.mark.parametrize(
    ("rps", "target"), [(11, 330), (1, 30), (0.7, 21), (4.1, 123), (1.05, 31), (0.01, 1), (100, 3000)]
)
def test_target_is_half_of_the_capacity_per_minute(rps, target):
    """The target is half of what one instance can do in a minute."""
    assert model.compute_target(rps) == target


@pytest.mark.parametrize(
    ("slots", "ms", "admitted"),
    [(10, 1268.95, 472), (10, 1269, 472), (1, 1000, 60), (10, 100, 6000), (10, 5, 6000), (0, 100, 0), (3, 60_000, 3)],
)
def test_function_throughput_follows_slots_and_duration(slots, ms, admitted):
    """A function admits slots by duration, at most ten calls a second per slot."""
    assert model.round_down(model.compute_function_throughput(slots, ms)) == admitted


@pytest.mark.parametrize(
    ("traffic", "each", "least", "count"),
    [(472, 330, 1, 2), (660, 330, 1, 2), (661, 330, 1, 3), (472, 20, 1, 24), (1, 330, 1, 1), (1, 330, 2, 2)],
)
def test_instances_are_whole_and_at_least_the_minimum(traffic, each, least, count):
    assert model.compute_instances(traffic, each, least) == count


def test_queueing_time_does_not_count_as_work():
    """56 ms with four callers on two vCPUs are 28 of work."""
    assert model.estimate_call_duration(ON_AMX) == 28 + model.OVERHEAD_MS
    assert model.estimate_call_duration(replace(ON_AMX, concurrency=1)) == 56 + model.OVERHEAD_MS


def test_original_settings_admit_12_times_what_they_plan(original):
    """The original's settings admit twelve times what its scaling target plans for."""
    plan, measured = planned(original)
    (finding,) = model.findings(plan, measured)
    assert finding.message == (
        "The function admits 472 requests a minute; the endpoint's scaling target covers 40 (2 x 20). "
        "That is 12 times as many; at that target an instance uses 3 % of its limit."
    )
    assert finding.fix == "Set endpoint.invocations_per_instance to 330; then: invoke sm.autoscale"
    assert plan.instances(plan.as_set) == 24
    assert plan.instances(plan.target) == 2


@pytest.mark.parametrize(("rps", "ms"), [(11.0, 1268.95), (11.0, 141.0), (8.0, 200.0), (600.0, 52.0), (5000.0, 51.0)])
def test_shipped_settings_are_coherent(rps, ms):
    """aws.example.yaml is left out: it reserves nothing, as a new account can reserve nothing, and the account's own limit counts.

    From the original's ResNet-50 to the demo's tiny network, whose calls are limited to ten a second and environment."""
    settings = settings_of()
    assert said(*planned(settings, rps, ms)) == []
    assert coherence.find_incoherence(model.from_flags(rps, ms, "ml.m5.large"), settings) == []
    by_concurrency = changed(settings, "endpoint", scaling_metric="concurrency")
    assert said(*planned(by_concurrency, rps, ms)) == []


def test_concurrency_target_is_compared_with_the_calls_at_once(original):
    settings = changed(original, "endpoint", scaling_metric="concurrency")
    (finding,) = model.findings(*planned(settings))
    assert finding.message == "The function runs 10 calls at once; the endpoint's scaling target covers 4 (2 x 2)."
    assert (
        finding.fix
        == "Set endpoint.max_instances to 5 (or fn.reserved to 4, then invoke lambda.deploy); then: invoke sm.autoscale"
    )
    for section, more in (("endpoint", {"max_instances": 5}), ("fn", {"reserved": 4})):
        assert said(*planned(changed(settings, section, **more))) == []


@pytest.fixture
def compare(monkeypatch, capsys):
    """Compares settings with a release that was measured at 11 requests a second; returns the account and what was printed."""
    monkeypatch.setattr(coherence.probe, "find_live_release", lambda account: None)
    monkeypatch.setattr(
        coherence.build, "read_load_test", lambda account, release: model.from_flags(11, 1269, "ml.m5.large")
    )

    def run(settings, because="", bounds=None):
        limits = {"AccountLimit": {"UnreservedConcurrentExecutions": 10}}  # as a new account has
        account = SimpleNamespace(settings=settings, because="", call=lambda service, call: limits)
        coherence.require_coherence(account, because, bounds)
        return account.because, capsys.readouterr().err

    return run


def test_incoherent_limits_need_a_reason(compare, original):
    with pytest.raises(
        OpsError, match=r"nothing was changed\. Set endpoint\.invocations_per_instance to 330.* --because"
    ) as refused:
        compare(original)
    assert refused.value.code == FINDINGS
    because, printed = compare(original, "for an hour")
    assert because == "for an hour"
    assert "Warning: The function admits 472 requests a minute; the endpoint's scaling target covers 40" in printed
    assert compare(settings_of()) == ("", "")
    assert compare(changed(original, "fn", reserved=0)) == ("", "")


def test_without_a_reservation_the_account_is_the_limit(compare, original):
    unreserved = changed(original, "fn", reserved=None)
    assert "The function admits 472 requests a minute" in compare(unreserved, "a new account")[1]
    assert compare(changed(unreserved, "endpoint", invocations_per_instance=330)) == ("", "")


def test_bounds_for_now_are_compared_in_place_of_the_settings(compare, original):
    coherent = changed(original, "endpoint", invocations_per_instance=330)
    assert compare(coherent, bounds=(1, 2)) == ("", "")
    with pytest.raises(OpsError, match=r"max_instances to 2"):
        compare(coherent, bounds=(1, 1))


def test_missing_measurement_is_said_and_a_denied_call_is_not_hidden(compare, monkeypatch, original):
    def fail(error):
        def read(account, release):
            raise error

        monkeypatch.setattr(coherence.build, "read_load_test", read)

    fail(OpsError("Release a has no measurement."))
    assert compare(original)[1].startswith(
        "What the function admits was not compared with the endpoint's scaling: Release a"
    )
    fail(AwsError("GetObject", "AccessDenied", "no"))
    with pytest.raises(AwsError):
        compare(original)


def test_advised_target_resolves_the_finding(original):
    plan, measured = planned(changed(original, "endpoint", invocations_per_instance=330))
    assert said(plan, measured) == []
    assert "Function, scaling and instances agree." in describe_plan(plan, measured, [], [])


@given(rps=st.floats(0.1, 500), ms=st.floats(5, 20_000), slots=st.integers(1, 500), as_set=st.integers(1, 20_000))
def test_advised_settings_resolve_every_finding(rps, ms, slots, as_set):
    measured = model.from_flags(rps, ms, "ml.m5.large")
    plan = model.Plan("ml.m5.large", rps, ms, slots, as_set, 1, 2, 60)
    for _ in range(2):  # the first may name a target that the second judges
        for finding in list(model.findings(plan, measured)):
            assert not re.search(r" to \d+,\d", finding.fix)  # YAML reads 1,000 as text
            if found := re.search(r"invocations_per_instance to (\d+)", finding.fix):
                plan = replace(plan, as_set=int(found[1]))
            if found := re.search(r"max_instances to (\d+)", finding.fix):
                plan = replace(plan, most=max(plan.most, int(found[1])))
    assert said(plan, measured) == []


def test_lower_concurrency_is_advised_only_if_some_is_left(original):
    """Fewer concurrent calls are advised only where some are left."""
    plan, measured = planned(changed(original, "fn", reserved=100))
    first, second = model.findings(plan, measured)
    assert "endpoint.max_instances to 15 (or fn.reserved to 13, then invoke lambda.deploy)" in first.fix
    assert "2 instances can handle 1,320. With 100 concurrent calls each waits about 4.5 s." in second.message
    slow, measured = planned(original, rps=0.1, ms=30_000)  # one call is more than the endpoint covers
    assert not any("fn.reserved to 0" in finding.fix for finding in model.findings(slow, measured))


def test_unreachable_scaling_target_is_found(original):
    plan, measured = planned(changed(original, "endpoint", invocations_per_instance=700))
    assert any("the endpoint is full before it scales out" in text for text in said(plan, measured))


def test_traffic_beyond_function_and_instances_is_found(original):
    plan, measured = planned(original, traffic=2000)
    _, refused, short = model.findings(plan, measured)
    assert "more than the function admits (472): the others are refused with 429" in refused.message
    assert refused.fix.startswith("Set fn.reserved to 43;")
    assert "2,000 requests a minute need 7 instances" in short.message
    assert model.compute_function_throughput(43, 1268.95) >= 2000 > model.compute_function_throughput(42, 1268.95)


def test_disabled_function_has_no_traffic_to_plan_for(original):
    """A function with a reserved concurrency of 0 admits no traffic to plan for."""
    off = changed(original, "fn", reserved=0)
    with pytest.raises(OpsError, match="admits no calls"):
        planned(off)
    assert planned(off, traffic=60)[0].admitted == 0
    assert planned(changed(original, "fn", reserved=None))[0].slots == 1000


def test_spike_is_absorbed_or_its_refusals_counted(original):
    calm = model.estimate_spike(planned(original)[0])
    assert (calm.minutes, calm.taken_per_minute, calm.unanswered) == ((7, 12), 660, (0, 0))
    assert model.estimate_spike(planned(original, traffic=1000)[0]).unanswered == (340 * 7, 340 * 12)


def test_bf16_figures_do_not_apply_to_other_cpus(original):
    plan = model.plan(ON_AMX, original)
    options = {option.instance_type: option for option in model.list_type_options(plan, ON_AMX)}
    assert {name for name, option in options.items() if option.amx} == {"ml.c7i.large", "ml.m7i.large"}
    assert options["ml.c7i.large"].requests_per_second == 70
    for name in ("ml.m5.large", "ml.m5.2xlarge", "ml.c6i.large"):
        assert options[name].dollars_per_month is None
        assert options[name].note == "not comparable, no bf16: measure there"
    assert "bf16 on Xeon with AMX says little about ml.m5.large" in said(plan, ON_AMX)[0]
    assert "There is no measurement for ml.m5.large" in describe_source(plan, ON_AMX)


def test_other_types_are_estimated_by_vcpus(original):
    measured = replace(ON_AMX, precision="fp32")
    plan = model.plan(measured, original)
    options = {option.instance_type: option for option in model.list_type_options(plan, measured)}
    assert options["ml.m5.2xlarge"].requests_per_second == 280
    assert {option.note for option in options.values()} == {"estimate", "estimate; bf16 may do more"}
    assert "(an estimate)" in describe_source(plan, measured)


def test_gpu_figures_do_not_apply_to_cpus(original):
    plan, measured = planned(changed(original, "endpoint", instance_type="ml.g4dn.xlarge"), rps=50, ms=200)
    own, *others = model.list_type_options(plan, measured)
    assert own.requests_per_second == 50
    assert {other.dollars_per_month for other in others} == {None}


def test_prices_come_from_the_price_list(original):
    plan, measured = planned(original)
    own = model.list_type_options(plan, measured)[0]
    assert own.dollars_per_month == pytest.approx(167.90)
    assert own.dollars_per_1000 == pytest.approx(2 * 0.115 / (472 * 60) * 1000)
    assert own.dollars_per_1000_full == pytest.approx(0.115 / (330 * 60) * 1000)


@given(rps=RATES, traffic=RATES, more=RATES)
def test_more_traffic_never_needs_less(rps, traffic, more):
    measured = model.from_flags(rps, 100, "ml.m5.large")
    less = model.Plan("ml.m5.large", rps, 100, 10, 20, 1, 2, traffic)
    plan = replace(less, traffic=traffic + more)
    assert model.compute_target(rps) >= 1
    for before, after in zip(
        (model.price_option(less, measured, name) for name in ("ml.m5.large", "ml.c5.xlarge")),
        (model.price_option(plan, measured, name) for name in ("ml.m5.large", "ml.c5.xlarge")),
        strict=True,
    ):
        assert 1 <= before.instances <= after.instances
        assert 0 <= before.dollars_per_month <= after.dollars_per_month
        assert before.dollars_per_1000 > 0
        assert before.dollars_per_1000_full == after.dollars_per_1000_full


@given(rps=RATES, ms=RATES, slots=st.integers(1, 10_000), as_set=st.integers(1, 10**6), asked=st.booleans())
def test_any_figures_are_described(rps, ms, slots, as_set, asked):
    measured = model.from_flags(rps, ms, "ml.m5.large")
    plan = model.Plan("ml.m5.large", rps, ms, slots, as_set, 1, 4, 60, asked)
    found, options = list(model.findings(plan, measured)), model.list_type_options(plan, measured)
    text = describe_plan(plan, measured, options, found)
    assert "nan" not in text and "inf" not in text
    assert json.loads(json.dumps(as_data(plan, measured, options, found)))["target"]["advised"] >= 1


@pytest.mark.parametrize("settings", ["original", "shut", "many", "amx", "gpu"])
def test_plot_is_a_png_of_its_size(original, tmp_path, settings):
    wanted = {
        "original": original,
        "shut": changed(original, "fn", reserved=0),
        "many": changed(original, "fn", reserved=900),
        "amx": original,
        "gpu": changed(original, "endpoint", instance_type="ml.g4dn.xlarge"),
    }[settings]
    plan, measured = planned(wanted, traffic=100)
    if settings == "amx":
        plan, measured = model.plan(ON_AMX, wanted), ON_AMX
    path = tmp_path / "capacity.png"
    options = model.list_type_options(plan, measured)
    capacity_chart.draw_capacity_chart(plan, options, describe_source(plan, measured), path)
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (1200, 600))
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20
    first = path.read_bytes()
    capacity_chart.draw_capacity_chart(plan, options, describe_source(plan, measured), path)
    assert path.read_bytes() == first


def test_given_figures_need_no_aws(tmp_path):
    done = ran(*BY_HAND, "--out", str(tmp_path / "a.png"))
    assert done.code == 7
    assert "The function admits 472 requests a minute; the endpoint's scaling target covers 40 (2 x 20)." in done.out
    assert "Given by flags, not measured: 11 requests a second for one ml.m5.large" in done.out
    assert (tmp_path / "a.png").stat().st_size > 10_000
    found = json.loads(ran(*BY_HAND, "--json").out)
    assert found["function"]["admitted_per_minute"] == 472
    assert found["covered_per_minute"] == {"as_set": 40, "advised": 660, "limit": 1320.0}
    assert found["target"] == {"advised": 330, "as_set": 20, "as_set_share_of_limit": 0.0303}
    assert found["types"][0]["dollars_per_month"] == 167.9
    (finding,) = found["findings"]
    assert finding["severity"] == "warning"
    assert finding["fix"].startswith("Set endpoint.invocations_per_instance to 330;")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--rps", "0", "--latency-ms", "5"), "--rps must be a number from 0.001"),
        ((*BY_HAND, "--traffic", "-5"), "--traffic must be a number from 0.001 to 1,000,000, not '-5'"),
        (("--rps", "11"), "--rps and --latency-ms must be given together"),
        ((*BY_HAND, "--out", "a.jpg"), "--out must be a file that ends in .png"),
    ],
)
def test_invalid_flags_are_rejected_in_a_sentence(words, why):
    done = ran(*words)
    assert done.code == 1
    assert why in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("text", ["", "abc", "nan", "inf", "-1", "0", "1e9"])
def test_invalid_number_is_rejected(text):
    with pytest.raises(OpsError, match="--rps must be a number"):
        parse_rate_or_time("--rps", text)
