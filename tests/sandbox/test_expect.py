"""What each role must and must not do holds; and every word of the policies that keeps something out is one that is missed."""


def test_remote_simulator_agrees_and_a_missing_one_is_reported(make_stack, inject_fault):
    cli = make_stack("expectremote")
    cli("iam.apply")
    assert cli("iam.check", "--remote", "--role", "ci").code == 0
    inject_fault("fault", operation="SimulatePrincipalPolicy", do="error", code="NotImplemented", status=400, times=20)
    ran = cli("iam.check", "--remote", "--role", "ci", ok=False)
    assert ran.code == 1
    assert "SimulatePrincipalPolicy" in ran.err
