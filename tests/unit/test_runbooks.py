"""Pages: each runbook has its parts, each command on a page parses, docs/commands.md has every task, links lead somewhere."""

import re
import shlex

import pytest
from invoke.parser import Parser

import tasks
from ops.core import output
from ops.core.paths import ROOT
from ops.incidents import page_layout, runbooks

PAGES = sorted((ROOT / "runbooks").glob("*.md"))
DOCS = [path for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "needed-actions"]  # that one is generated
READMES = [ROOT / "README.md", *(ROOT / name / "README.md" for name in ("sandbox", "iampolicy", "iam_policies"))]
DOCUMENTS = [*PAGES, *READMES, *DOCS, ROOT / "CONTRIBUTING.md"]
INCIDENTS = {
    "artefact-missing",
    "endpoint-4xx",
    "logs-missing",
    "box-unreachable",
    "box-disk-full",
    "no-capacity",
    "spot-interruption",
    "bad-model",
    "endpoint-5xx",
    "endpoint-latency",
    "endpoint-not-scaling",
    "endpoint-stuck",
    "iam-denied",
    "iam-passrole",
    "lambda-errors",
    "lambda-memory",
    "lambda-provisioned",
    "lambda-throttled",
    "leaked-key",
    "training-failed",
    "training-stuck",
}
COMMAND = re.compile(
    r"^\s*\$ (?:[A-Z_0-9]+=\S+ )?invoke (.+?)(?:\s+#.*)?$|`\$ (?:[A-Z_0-9]+=\S+ )?invoke ([^`]+)`", re.M
)
PARTS = ("**When**", "**Takes**", "**Before you start**", "**Check**", "**Undo**", "**Why**")


def commands(text):
    return [(one or two).strip() for one, two in COMMAND.findall(text)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_on_a_page_exists(path):
    from invoke.program import Program

    for command in commands(path.read_text()):
        words = shlex.split(re.sub(r"\{\w+\}", "7", command))
        core = Program().initial_context
        parser = Parser(contexts=tasks.ns.to_contexts(), initial=core)
        parsed = [context.name for context in parser.parse_argv(words) if context.name]
        assert parsed or "--list" in words, command


@pytest.mark.parametrize("path", [p for p in PAGES if p.stem not in INCIDENTS | {"README"}], ids=lambda p: p.stem)
def test_job_page_has_its_parts_and_fits_a_screen(path):
    text = path.read_text()
    assert [part for part in PARTS if part not in text] == []
    assert text.startswith("# ")
    assert text.count("\n") <= 60
    assert "```console" in text


@pytest.mark.parametrize("name", sorted(INCIDENTS))
def test_incident_page_has_its_parts(name):
    text = (ROOT / "runbooks" / f"{name}.md").read_text()
    assert re.findall(r"^## (\w+)", text, re.M) == ["Confirm", "Decide", "Mitigate", "Verify", "Afterwards"]
    assert f"id: {name}\n" in text
    assert len(text.split()) <= 560
    for attributes in re.findall(r"```console \{(.+)\}", text):
        assert re.match(r"#[\w-]+ kind=(read|change)", attributes)
        assert "kind=read" in attributes or "undo=" in attributes or "irreversible=true" in attributes


def test_every_task_is_documented():
    rows = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs" / "commands.md").read_text(), re.M)
    assert sorted(rows) == sorted(tasks.ns.task_names)


def test_the_readme_stays_short_and_honest():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 90
    assert "$ make demo " in text
    assert "$ make test " in text
    assert "Never run on AWS so far" in text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_have_targets(path):
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file) if file else path
        assert found.exists(), target
        if anchor:
            heads = [
                re.sub(r"[^\w-]", "", head.lower().replace(" ", "-"))
                for head in re.findall(r"^#+ (.+)", found.read_text(), re.M)
            ]
            assert anchor in heads, target


def test_index_names_every_page():
    index = (ROOT / "runbooks" / "README.md").read_text()
    assert [p.name for p in PAGES if p.name != "README.md" and f"({p.name})" not in index] == []


@pytest.mark.parametrize("path", [path for path in PAGES if path.stem != "README"], ids=lambda p: p.stem)
def test_layout_breaks_no_command(path):
    """A command that a terminal shows on two lines is pasted as two; prose and tables are wrapped."""
    page = runbooks.render_page(path.read_text(), "/home/someone/settings/of/the/production/account.yaml")
    shown = [line for line, _ in page_layout.layout_page(page, 60, output.format_blocks)]
    text = "\n".join(shown)
    spans = [*re.findall(r"`(\$ [^`\n]+)`", page), *re.findall(r"^\s*\$ .+$", page, re.M)]
    assert spans
    assert [span for span in spans if span not in text] == []
    assert "```" not in text
    assert page_layout.HELD not in text


def test_layout_keeps_lists_and_headings():
    page = "# Title\n1. one two three\n   four five\n2. `$ invoke sm.status --minutes 60` ends\n```console\n$ invoke a\n```\ntext\n"
    shown = list(page_layout.layout_page(page, 16, output.format_blocks))
    assert shown[0] == ("Title", True)
    assert [line for line, _ in shown[1:]] == [
        "1. one two three", "   four five", "2.", "   `$ invoke sm.status --minutes 60`", "   ends", "", "$ invoke a", "", "text",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("endpoint-4xx", 'AWS refused InvokeEndpoint: ModelError: Received client error (400) from primary with message "no"'),
        ("endpoint-4xx", "The function answers 415: content type text/plain; send one of image/jpeg"),
        ("endpoint-5xx", 'ModelError: Received server error (503) from primary with message "no healthy instance"'),
        ("artefact-missing", "The file of release 33345056614a in S3 is missing or changed. Rebuild it: invoke sm.deploy --job j"),
        ("artefact-missing", "There is no model of j: s3://b/jobs/j/output/model.tar.gz is missing. Train it again: invoke sm.train --again"),
        ("logs-missing", "The log group /aws/sagemaker/Endpoints/kennel-demo is missing: it was deleted, or never created."),
        ("logs-missing", "no line in the log"),
        ("iam-denied", "x is not authorized to perform: s3:GetObject on resource: y because no identity-based policy allows it"),
        ("training-failed", "kennel-demo-sm1-9ae4a210 ended Failed: AlgorithmError"),
    ],
)  # fmt: skip
def test_page_is_found_by_the_message_as_printed(page, message):
    assert page in [match.page for match in runbooks.search_pages(message)]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("endpoint-5xx", "502 the endpoint failed"),
        ("endpoint-5xx", "503"),
        ("endpoint-5xx", "timeout"),
        ("endpoint-5xx", "timed out"),
        ("endpoint-5xx", "Connection reset"),
        ("endpoint-5xx", "connection refused"),
        ("endpoint-5xx", "Throttling"),
        ("endpoint-4xx", "answers 400"),
        ("endpoint-4xx", "not a readable PNG or JPEG"),
        ("artefact-missing", "file missing"),
        ("iam-denied", "AccessDenied"),
        ("iam-denied", "permission"),
    ],
)
def test_first_page_found_is_the_incident(page, words):
    assert runbooks.search_pages(words)[0].page == page


def test_update_on_a_page_reads_as_the_plan_prints_it():
    """The sample output of an update has the words of ops/endpoint/plan.py."""
    plan = (ROOT / "ops" / "endpoint" / "plan.py").read_text()
    samples = [
        line for path in PAGES for line in path.read_text().splitlines() if "~ sagemaker.update_endpoint:" in line
    ]
    assert len(samples) >= 3
    for line in samples:
        what, rest = line.split("update_endpoint: ")[1].split(" … " if "…" in line else " kennel-", 1)
        shift, watched = rest.split(", ", 1)[1].split("; ")
        assert [words for words in (what, shift, watched) if words not in plan] == []


def test_a_healthy_message_finds_no_incident():
    assert runbooks.search_pages("kennel-demo serves release 33345056614a. 2 made. Next: invoke sm.status") == []
