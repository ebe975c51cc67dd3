"""One lease a stack: of many commands at once one holds it, the others read who does, and a stale one is freed by its id."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ops.core import lease, plan, running
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.lease import Lease, Record
from ops.core.plan import Change

HOLDER = Record("abc", True, "ann", "elsewhere", 7, "other", "net.up", "2026-12-01T00:00:00+00:00")


@pytest.fixture(scope="module")
def cli(make_stack):
    cli = make_stack("leased")
    cli("data.up")
    return cli


@pytest.fixture
def account(cli):
    """The operator's account, while no command holds the lease."""
    account = Account(cli.settings, "operator-infra")
    put(account, replace(HOLDER, held=False))
    return account


def put(account, record):
    account.bucket.put(lease.KEY, json.dumps(vars(record)).encode())


def held(account):
    return lease.parse(account.bucket.get(lease.KEY)).held


def test_second_operator_reads_who_holds_the_lease(cli, account):
    put(account, HOLDER)
    refused = cli("net.up", ok=False)
    assert refused.code == 5
    assert "ann on elsewhere (process 7), invoke net.up, since 2026-12-01T00:00:00+00:00. Nothing" in refused.err
    assert account.list_tagged("describe_vpcs", "Vpcs") == []
    assert cli("net.status").code == 0
    assert cli("--dry", "net.up").code == 0


def test_lease_is_held_while_a_plan_is_applied_and_then_free(account):
    seen = []

    def steps():
        yield Change("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16"}, why="never made")

    account.make_change = lambda step: seen.append(held(account))
    plan.apply(steps, account, lambda line: None)
    assert (seen, held(account)) == ([True], False)


def test_facts_read_before_another_change_are_refused(account):
    """A command that read the stack before another one changed it is refused, although the lease is free again."""
    account.lease.note()
    put(account, replace(HOLDER, held=False, beat=1))
    with pytest.raises(OpsError, match="changed the stack while this command read it") as error, account.lease.hold():
        pytest.fail("held")
    assert error.value.code == 5


def test_lease_taken_away_stops_the_next_removal(account):
    def steps():
        yield Change("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16"}, why="first")
        yield Change("ec2", "delete_vpc", {"VpcId": "vpc-1"}, why="second")

    made = []

    def make_change(step):
        made.append(step.why)
        put(account, replace(HOLDER, id="def"))

    account.make_change = make_change
    with pytest.raises(OpsError, match="was taken away"):
        plan.apply(steps, account, lambda line: None)
    assert made == ["first"]
    assert lease.parse(account.bucket.get(lease.KEY)).id == "def"  # the other's, which stays


def test_stale_lease_is_freed_by_its_id_alone(cli, account, monkeypatch):
    put(account, HOLDER)
    assert "The lease is alive" in cli("stack.unlock", "--id", "abc", ok=False).err
    monkeypatch.setattr(lease, "STALE_S", -1.0)
    assert "invoke stack.unlock --id abc" in cli("net.up", ok=False).err
    assert cli("stack.unlock", "--id", "xyz", ok=False).code == 5
    assert "is free" in cli("stack.unlock", "--id", "abc").out
    assert not held(account)


def test_lease_of_an_ended_process_is_taken_over(account, monkeypatch):
    monkeypatch.setattr(lease.socket, "gethostname", lambda: "elsewhere")
    put(account, replace(HOLDER, pid=2**22 + 1))  # above Linux's largest process id
    with account.lease.hold():
        assert lease.parse(account.bucket.get(lease.KEY)).command == running.command
    assert not held(account)


def test_lease_is_held_once_although_its_answer_is_lost(account, inject_fault):
    inject_fault("fault", operation="PutObject", do="lost")
    with account.lease.hold():
        assert held(account)
    assert not held(account)


def test_one_of_sixteen_commands_holds_the_lease(cli):
    """Sixteen at once, in twenty rounds: exactly one wins each round."""
    accounts = [Account(cli.settings, "operator") for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        for _ in range(20):
            rivals = [Lease(account) for account in accounts]
            taken = list(threads.map(try_to_take, rivals))
            assert taken.count(True) == 1
            rivals[taken.index(True)]._free()


def try_to_take(rival):
    try:
        rival._take()
    except OpsError as error:
        assert error.code == 5, error
        return False
    return True
