"""Slips of the fingers: each is answered in at most three lines on stderr, with what to type next, and exits with another code than 0."""

import re
import shlex
from typing import NamedTuple

import pytest

from tests.conftest import Cli, draw_pictures

NEXT = re.compile(r"did you mean |invoke [a-z-]|--[a-z]+|invoke\.yaml|unset INVOKE_|or remove the line", re.IGNORECASE)


class Slip(NamedTuple):
    """What was typed after `invoke`, or given by variable or settings file, and what the answer must say."""

    words: str
    said: str
    variable: str = ""
    settings: str = ""


SLIPS = {
    # commands
    "letters swapped": Slip("sm.trani", "There is no command sm.trani; did you mean sm.train?"),
    "capitals": Slip("SM.Train", "did you mean sm.train?"),
    "blank for dot": Slip("sm train --spot", "sm is a group of commands; did you mean sm.train?"),
    "colon for dot": Slip("sm:train", "did you mean sm.train?"),
    "dot at the end": Slip("sm.", "sm is a group of commands; they are listed by: invoke sm"),
    "underscore in a command": Slip("net.my_address", "did you mean net.my-address?"),
    "group missing": Slip("deploy", "did you mean lambda.deploy or sm.deploy?"),
    "wrong group": Slip("ec2.deploy", "did you mean lambda.deploy or sm.deploy?"),
    "plural group": Slip("runbooks.list", "did you mean runbook.list?"),
    "verb unknown": Slip("sm.frobnicate", "those of sm are listed by: invoke sm"),
    "nothing like it": Slip("zzzzzz", "There is no command zzzzzz; see: invoke --list"),
    "empty word": Slip("''", "There is no command ''; see: invoke --list"),
    "comma between commands": Slip("net.up,net.down", "commands are separated by blanks: invoke net.up net.down"),
    "second command wrong": Slip("net.status net.statsu", "did you mean net.status?"),
    "help as a command": Slip("help sm.train", "invoke --help sm.train"),
    "help of no command": Slip("--help sm.trani", "did you mean sm.train?"),
    "list of no group": Slip("--list runbok", "did you mean runbook?"),
    # flags
    "letter missing in a flag": Slip("sm.train --instnces 2", "sm.train has no flag --instnces; did you mean --instances?"),
    "capital in a flag": Slip("sm.train --Spot", "did you mean --spot?"),
    "underscore in a flag": Slip("sm.train --from_tuning x", "did you mean --from-tuning?"),
    "one hyphen": Slip("sm.train -instances 2", "a long flag has two hyphens: --instances"),
    "one hyphen before a switch": Slip("sm.train -spot", "did you mean --spot?"),
    "dash for hyphens": Slip("sm.train —spot", "did you mean --spot?"),
    "no hyphens": Slip("sm.train instances=2", "did you mean --instances=2?"),
    "flag of another command": Slip("sm.train --confirm x", "sm.train has no flag --confirm; see: invoke --help sm.train"),
    "value for a switch": Slip("net.down --yes=1", "The flag --yes takes no value; write it alone"),
    "switch turned off": Slip("sm.train --no-again", "did you mean --again?"),
    "dry misspelt": Slip("--dryy net.up", "invoke has no flag --dryy; did you mean --dry?"),
    "dry misspelt after the command": Slip("net.up --dryy", "net.up has no flag --dryy; did you mean --dry?"),
    # values and arguments
    "value missing": Slip("sm.train --instances", "The flag --instances needs a value."),
    "argument missing": Slip("sm.invoke", "\nExample: invoke sm.invoke PICTURE"),
    "argument too many": Slip("sm.invoke a.png b.png", "There is no command b.png, and sm.invoke takes no such word"),
    "word for a number": Slip("sm.train --instances two", "The flag --instances takes a number, got 'two'"),
    "word for a number after =": Slip("sm.status --minutes=abc", "The flag --minutes takes a number, got 'abc'"),
    "number below 0": Slip("sm.status --minutes -5", "--minutes takes a number from 0 to 10000000, got -5"),
    "number too large": Slip("sm.status --minutes 99999999999999999999", "--minutes takes a number from 0 to 10000000"),
    "no hosts": Slip("sm.train --instances 0", "--instances must be at least 1"),
    "client unknown": Slip("sm.train --via boto4", "--via must be one of boto3, sdk, not 'boto4'. See: invoke --help sm.train"),
    # things that are not there
    "page": Slip("runbook.show zzz", "There is no runbook zzz. Search the pages: invoke runbook.find zzz"),
    "role": Slip("iam.check --role operater", "There is no role 'operater' in iam_policies/; did you mean operator?"),
    "action": Slip("iam.simulate operator s3:GetObjct '*'", "AWS has no action 's3:GetObjct'. Did you mean s3:GetObject?"),
    "job": Slip("sm.attach nosuch", "No job of this stack is called nosuch."),
    "release": Slip("sm.preflight --release zz", "No release begins with 'zz'. List the releases: invoke sm.releases"),
    "digest": Slip("data.use zz", "have a digest that begins with 'zz'. List them: invoke data.list"),
    "archive": Slip("data.fetch dgos", "Did you mean: invoke data.fetch dogs?"),
    "architecture": Slip("data.weights resnet19", "did you mean resnet18?"),
    "fault": Slip("sandbox.fault slwo", "There is no fault 'slwo'"),
    "picture": Slip("sm.invoke nosuch.png", "The file nosuch.png does not exist."),
    "folder": Slip("data.push --dir nosuch", "There is no folder nosuch."),
    "folder of the demo": Slip("demo --data nosuch", "There is no folder nosuch."),
    "error message": Slip("iam.explain @nosuch", "nosuch: No such file or directory. Save the message to a file"),
    # settings, variables, profiles
    "settings file after the command": Slip("sm.train -f aws.yml", "There is no settings file aws.yml; did you mean"),
    "settings file missing": Slip("net.status -f aws.exampl.yaml", "There is no settings file aws.exampl.yaml; did you mean aws.example.yaml?"),
    "settings in Python": Slip("net.status -f tasks.py", "tasks.py is a program, and settings are not run"),
    "section empty": Slip("net.status", "train is a section, and is empty", settings="train:\n"),
    "list format": Slip("--list --list-format=xml", "The flag --list-format takes flat, nested or json, got 'xml'"),
    "variable misspelt": Slip("net.status", "did you mean INVOKE_STACK_NAME?", variable="INVOKE_STACK_NAM=x"),
    "variable in small letters": Slip("net.status", "did you mean INVOKE_TRAIN_EPOCHS?", variable="INVOKE_train_epochs=3"),
    "variable against the file": Slip("net.down --yes", "contradicts", variable="INVOKE_STACK_NAME=staging"),
    "word for a setting's number": Slip("net.status", "takes a whole number, got 'abc'", variable="INVOKE_TRAIN_EPOCHS=abc"),
    "setting misspelt": Slip("net.status", "did you mean epochs?", settings="train: {epoch: 3}\n"),
    "section misspelt": Slip("net.status", "did you mean train?", settings="trani: {epochs: 3}\n"),
    "profile misspelt": Slip("net.status", "Did you mean 'sandbox'?", settings="profile: sandbax"),
    "bucket missing": Slip("sm.stop nosuch", "Create it: invoke data.up", settings="stack: {name: slipsempty}\n"),
}  # fmt: skip
TYPED = ("blank for dot", "one hyphen", "help of no command", "variable misspelt", "page")


@pytest.fixture(scope="module")
def cli(make_stack, tmp_path_factory):
    make_stack("slipsempty")
    made = make_stack("slips")
    made("data.up")
    made("data.push", "--dir", str(draw_pictures(tmp_path_factory.mktemp("slips") / "pictures")))
    return made


def read_slip(cli, tmp_path, slip):
    """Return the Cli, the words and the environment of a slip."""
    if slip.settings:
        text = cli.file.read_text()
        if slip.settings.startswith("profile"):
            text = text.replace("aws: {", f"aws: {{{slip.settings}, ")
        elif slip.settings.startswith("stack"):
            text = text.replace("stack: {name: slips}\n", slip.settings)
        else:
            text += slip.settings
        (tmp_path / "wrong.yaml").write_text(text)
        cli = Cli(tmp_path / "wrong.yaml")
    name, equals, value = slip.variable.partition("=")
    return cli, shlex.split(slip.words), {name: value} if equals else {}


@pytest.mark.parametrize("name", SLIPS)
def test_a_slip_is_answered_in_three_lines(cli, tmp_path, name):
    slip = SLIPS[name]
    here, words, env = read_slip(cli, tmp_path, slip)
    ran = here(*words, ok=False, env=env)
    assert (ran.code, ran.out) == (1, "")
    assert slip.said in ran.err
    assert ran.err.count("\n") <= 3
    assert NEXT.search(ran.err)
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("name", TYPED)
def test_a_typed_slip_has_the_same_answer(cli, tmp_path, name):
    here, words, env = read_slip(cli, tmp_path, SLIPS[name])
    assert here.typed(*words, ok=False, env=env) == here(*words, ok=False, env=env)


def test_there_are_40_slips():
    assert len(SLIPS) >= 40
    assert set(TYPED) < set(SLIPS)


@pytest.mark.parametrize("words", [("net",), ("net", "--help"), ("net", "help"), ("--help", "net")])
def test_a_group_lists_its_commands(cli, words):
    ran = cli(*words)
    assert ran.out.splitlines()[0].startswith("  net.")
    assert ran.err == ""
