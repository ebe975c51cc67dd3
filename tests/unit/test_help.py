"""The help of each command: a first line in the imperative, one example that Invoke parses, flags with their defaults."""

import inspect
import re
import shlex

import pytest
from invoke.parser import Parser

import tasks

WIDTH = 78  # Invoke prints a docstring as it is, indented by two; a terminal has 80 columns
EXAMPLE = "Example: invoke "
CONTEXTS = {
    context.name: context for context in tasks.ns.to_contexts()
}  # once: Invoke drops the flags' texts as it reads them
NOT_IMPERATIVE = {"A", "All", "An", "For", "How", "Of", "That", "The", "This", "What", "Whether", "Which", "Who", "Why"}


def read_help(name):
    return inspect.getdoc(tasks.ns[name]) or ""


@pytest.mark.parametrize("name", sorted(tasks.ns.task_names))
def test_help_begins_with_an_imperative_line(name):
    first, *rest = read_help(name).splitlines()
    assert re.fullmatch(r"[A-Z][a-z]+ .+\.", first)
    assert first.split()[0] not in NOT_IMPERATIVE
    assert not first.split()[0].endswith(("ed", "ing"))
    assert rest[0] == ""


@pytest.mark.parametrize("name", sorted(tasks.ns.task_names))
def test_help_fits_80_columns(name):
    assert [line for line in read_help(name).splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("name", sorted(tasks.ns.task_names))
def test_help_ends_with_one_example_that_parses(name):
    assert read_help(name).count("Example") == 1
    last = " ".join(read_help(name).split("\n\n")[-1].split())
    assert last.startswith(EXAMPLE)
    parsed = Parser(contexts=CONTEXTS.values()).parse_argv(shlex.split(last.removeprefix(EXAMPLE)))
    assert [context.name for context in parsed] == [name]


def test_each_flag_is_described_with_its_default():
    flags = [(name, flag) for name, context in CONTEXTS.items() for flag in context.args.values()]
    assert len(flags) > 100
    for task, flag in flags:
        assert re.fullmatch(r"[A-Z].*\.", flag.help or ""), (task, flag.name)
        if flag.kind is not bool and flag.default:
            assert f"(default: {flag.default})" in flag.help, (task, flag.name)


def test_settings_file_may_follow_every_command():
    """With a short flag of its own, `invoke sm.train -f aws.yaml` would train by the defaults."""
    assert [name for name, context in CONTEXTS.items() if {"-f", "-h"} & set(context.flag_names())] == []


def test_help_texts_of_one_flag_agree():
    """Flags that every reader expects to mean the same, described in the same words."""
    found = {
        flag: {context.args[flag].help for context in CONTEXTS.values() if flag in context.args}
        for flag in ("json", "yes")
    }
    assert found == {"json": {"Print the result as JSON."}, "yes": {"Skip the confirmation prompt."}}


def test_flags_have_their_help_for_each_reader():
    """Invoke's own tasks hand out the help of their flags once."""
    first, second = ([argument.help for argument in tasks.ns["sm.deploy"].get_arguments()] for _ in range(2))
    assert first == second
    assert all(first)
