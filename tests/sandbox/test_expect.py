"""What each role must and must not do holds; and every word of the policies that keeps something out is one that is missed."""


def test_missing_simulator_is_reported(make_stack):
    cli = make_stack("expectremote")
    cli("iam.apply")
    ran = cli("iam.check", "--remote", "--role", "ci", ok=False)
    assert ran.code == 1
    assert "SimulatePrincipalPolicy" in ran.err
