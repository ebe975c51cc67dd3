"""The vocabulary check: words of docs/vocabulary.toml are found with their line, and good English passes."""

import re
import tomllib

import pytest

from tests.vocabulary import ROOT, find_words, read_vocabulary

VOCABULARY = read_vocabulary()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("Nobody is here to agree: say --yes.", "Nobody"),
        ("raise OpsError(f'{path} is no JSON')", "is no"),
        ("    told = audited(account)", "told"),
        ("def is_spoilt(shard):", "spoilt"),
        ("# the job carries on from its checkpoint", "carries on"),
        ("The command that mends it.", "mends"),
    ],
)
def test_listed_word_is_found_with_line_and_alternative(line, word):
    (found,) = find_words("ops/x.py", f"fine\n{line}\n", VOCABULARY)
    assert re.match(rf"ops/x\.py:2: {word}: use instead: \w", found)


@pytest.mark.parametrize(
    "line",
    [
        "Cannot ask for confirmation without a terminal; pass --yes.",
        "There is no endpoint kennel-demo. Deploy one: invoke sm.deploy",
        "The index is no longer needed, and it recommends a fix. A command, a mandate.",
        "carry_out(c, account, steps)",
    ],
)
def test_plain_sentence_passes(line):
    assert list(find_words("ops/x.py", line, VOCABULARY)) == []


def test_exceptions_are_skipped(tmp_path):
    listed = (
        "word = [{word = 'told', instead = 'reported'}]\n"
        "allow = [{file = 'a/', reason = 'r'}, {phrase = 'AWS told us', reason = 'r'}]"
    )
    (tmp_path / "list.toml").write_text(listed)
    vocabulary = read_vocabulary(tmp_path / "list.toml")
    assert list(find_words("a/b.md", "told", vocabulary)) == []
    assert list(find_words("b.md", "AWS told us", vocabulary)) == []
    assert list(find_words("b.md", "AWS told us, we told them", vocabulary)) == ["b.md:1: told: use instead: reported"]


def test_every_entry_has_its_alternative_or_reason():
    listed = tomllib.loads((ROOT / "docs" / "vocabulary.toml").read_text())
    assert all(one["instead"] for one in listed["word"])
    assert all(one["reason"] and ("file" in one) != ("phrase" in one) for one in listed["allow"])
