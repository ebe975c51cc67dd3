"""What each role must and must not do holds; and every word of the policies that keeps something out is one that is missed."""


def test_what_the_sandbox_cannot_simulate_it_says(stacks):
    cli = stacks("expectremote")
    cli("iam.apply")
    ran = cli("iam.check", "--remote", "--role", "ci", ok=False)
    assert ran.code == 1
    assert "SimulatePrincipalPolicy" in ran.err
