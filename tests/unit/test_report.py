"""The report of a trained model: what it counts, that it cannot be used against its reader, that odd input does not stop it."""

import importlib
import io
import json
import math
import random
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ops.core.errors import OpsError
from ops.jobs.tuning import Trial
from ops.reports import answer_plots, drawing, html, misclassified, results, training_plots

HOSTILE = [
    '<script>alert("1")</script>',
    "$\\frac{a}$",
    "a & b <img src=http://x.example/>",
    "q\"'><b>",
    "line\nend\u202e",
    "\ud800",
]


def card_of(classes, tested, data="0" * 64):
    return {
        "arch": "resnet_tiny",
        "classes": classes,
        "preprocess": {"pixels": 32, "mean": [0.5], "std": [0.2]},
        "data": data,
        "commit": "c6e572b0aa11-dirty",
        "settings": {"epochs": 5, "batch": 64, "lr": 0.004},
        "processes": 2,
        "device": "cpu",
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "seed": 0,
        "metrics": {"valid": tested, "test": tested},
    }


def answered(classes, each, skill, rng):
    """A line for each test picture; with skill 1 all are right, with 0 none is."""
    for label in classes:
        for number in range(each):
            others = [name for name in classes if name != label]
            near = others[(classes.index(label) * 7) % len(others)]  # a class has a favourite mistake
            wrong = near if rng.random() < 0.6 else rng.choice(others)
            said = label if rng.random() < skill else wrong
            sure = rng.uniform(0.35, 1)
            rest = rng.sample([name for name in classes if name != said], min(4, len(classes) - 1))
            loss = -math.log(sure) if said == label else rng.uniform(1, 9)
            chances = [sure, *((1 - sure) / 5 for _ in rest)]
            yield {
                "name": f"test/{label}/{number}.png",
                "label": label,
                "loss": loss,
                "top": [said, *rest],
                "probabilities": chances,
            }


def folder_of(path, classes, each=12, skill=0.85, epochs=8, seed=0, **more):
    """A model's folder as training leaves it. `more` goes into model.json."""
    rng = random.Random(seed)
    path.mkdir(parents=True, exist_ok=True)
    lines = list(answered(classes, each, skill, rng))
    right = sum(line["top"][0] == line["label"] for line in lines) / len(lines)
    tested = {"loss": 0.61, "accuracy": right, "top5": min(1.0, right + 0.1), "macro_f1": right - 0.01}
    tested |= {"calibration_error": 0.034, "pictures": len(lines)}
    (path / "model.json").write_text(json.dumps(card_of(classes, tested) | more))
    (path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    curve = [epoch_of(number, epochs, right) for number in range(1, epochs + 1)]
    curve.append({"test": tested, "best_epoch": max(1, epochs - 1)})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))
    (path / "ledger.json").write_text(json.dumps({"complete": True, "pictures": 1257, "overlap": 1, "padding": 1}))
    return path


def epoch_of(number, epochs, right):
    loss = 0.3 + 2 * math.exp(-number / 2)
    valid = {
        "loss": loss + 0.1 + 0.02 * number,
        "accuracy": right * (1 - math.exp(-number)),
        "top5": 1 - math.exp(-number),
    }
    valid |= {"macro_f1": right * (1 - math.exp(-number)) - 0.02, "calibration_error": 0.05, "pictures": 360}
    train = {"loss": loss, "accuracy": 1 - 0.9 * math.exp(-number / 2)}
    rest = {
        "lr": 0.004 * math.sin(math.pi * number / (epochs + 1)),
        "seconds": 12.0 + number % 3,
        "images_per_s": 1234.5,
    }
    return {
        "epoch": number,
        "step": number * 20,
        "train": train,
        "valid": valid,
        **rest,
        "data_wait": 0.12 + 0.3 / number,
    }


def picture(colour, kind="PNG", size=(40, 30)):
    held = io.BytesIO()
    Image.new("RGB", size, colour).save(held, kind)
    return held.getvalue()


def drawn(folder, pictures=None):
    """(what was read, the page) after everything was drawn."""
    found = results.read_results("kennel-job", folder)
    return found, html.render_report(found, drawing.draw_plots(found, pictures or {}, folder))


class Page(HTMLParser):
    """The page as a browser's parser sees it: elements, what they refer to, and the texts."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.refers, self.texts, self.handlers = set(), [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.refers += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "model", ["cat", "dog", "red fox"])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(the folder, what was read, the page) of a model on which all is well; drawn once, for tests that only look."""
    folder = folder_of(tmp_path_factory.mktemp("report") / "model", ["cat", "dog", "red fox"])
    return folder, *drawn(folder)


def test_every_plot_is_written_beside_the_model(folder):
    found = results.read_results("kennel-job", folder)
    plots = drawing.draw_plots(found, {}, folder)
    assert {name: path.name for name, path in plots.items()} == {
        name: f"{name}.png" for name in ("curves", "confusion", "mistakes", "calibration")
    }
    for path in plots.values():
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            assert "Software" not in image.info
    assert not list(folder.glob("*.part"))


def test_page_loads_nothing_and_runs_nothing(report):
    *_, source = report
    seen = Page(source)
    assert "://" not in re.sub(r'"data:image/png;base64,[^"]*"', "", source)
    assert len(seen.refers) == 4
    assert all(refers.startswith("data:image/png;base64,") for refers in seen.refers)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & seen.tags
    assert "default-src 'none'" in source
    assert "@import" not in source
    assert "url(" not in source


def test_hostile_names_are_shown_as_text(tmp_path):
    folder = folder_of(tmp_path / "model", HOSTILE, skill=0.3, arch=HOSTILE[0], versions={HOSTILE[2]: HOSTILE[3]})
    (folder / "model.json").write_text((folder / "model.json").read_text().replace("c6e572b", "<i>c6e"))
    _, source = drawn(folder)
    seen = Page(source)
    plain_tags = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "b",
        "span",
        "table",
        "tr",
        "th",
        "td",
    }
    assert seen.tags <= plain_tags | {"img", "input", "label", "details", "summary", "wbr"}
    assert not seen.handlers
    assert all(refers.startswith("data:image/png") for refers in seen.refers)
    assert HOSTILE[0] in "".join(seen.texts)
    source.encode()  # halves of surrogate pairs would not go into a file
    assert "\u202e" not in source


def test_headline_precedes_the_plots_and_names_the_origin(report):
    """The headline comes before the plots, and says where the model is from."""
    _, found, source = report
    head = " ".join(Page(source[: source.index("<img")]).texts)
    for part in (
        "kennel-job",
        "0" * 64,
        "c6e572b0aa11-dirty",
        "dirty: files differed",
        "complete: each picture",
        "macro F1",
    ):
        assert part in head
    assert f"{100 * found.test('accuracy'):.1f} %" in head


@pytest.mark.parametrize(
    ("ledger", "words"),
    [
        ({"complete": True, "pictures": 9, "overlap": 3, "padding": 3}, "complete: each picture"),
        ({"complete": True, "pictures": 9, "overlap": 4, "padding": 3}, "incomplete"),
        ({"complete": False}, "incomplete"),
        ({}, "incomplete"),
    ],
)
def test_ledger_verdict_is_described(folder, ledger, words):
    (folder / "ledger.json").write_text(json.dumps(ledger))
    verdict = html.describe_ledger(results.read_results("job", folder))
    assert (verdict.text or verdict.warning).startswith(words)


def test_counts_equal_those_of_the_predictions(folder):
    found = results.read_results("kennel-job", folder)
    counts = results.count_confusions(found)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for i, label in enumerate(found.classes):
        for j, said in enumerate(found.classes):
            assert counts[i][j] == sum(line["label"] == label and line["top"][0] == said for line in lines)
    wrong = sum(times for *_, times, _ in results.list_confused_pairs(found, 1000))
    assert wrong == len(lines) - found.right == len(results.list_worst_mistakes(found, 1000))
    assert sum(one.right for one in results.compute_recalls(found)) == found.right
    assert sum(one.pictures for one in results.group_by_confidence(found)) == len(lines)


def test_most_confused_and_least_recalled_are_listed(tmp_path):
    folder = folder_of(tmp_path / "model", ["cat", "dog", "fox"], skill=1)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for line in lines[:3]:
        line["top"] = ["fox"]
    lines[4]["top"] = ["dog"]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found, source = drawn(folder)
    assert results.list_confused_pairs(found) == [("cat", "fox", 3, 12), ("cat", "dog", 1, 12)]
    assert results.compute_recalls(found)[0] == results.Recall("cat", 8, 12, "fox")
    assert "<td>cat</td><td>fox</td><td class=n>3 of 12</td><td class=n>25.0 %</td>" in source


def test_worst_mistakes_have_the_highest_loss(folder):
    found = results.read_results("kennel-job", folder)
    worst_ones = results.list_worst_mistakes(found, 5)
    assert all(one.label != one.predicted for one in worst_ones)
    assert [one.loss for one in worst_ones] == sorted((one.loss for one in worst_ones), reverse=True)


def test_equal_input_gives_equal_bytes(tmp_path):
    classes = ["cat", "dog", "日本"]
    pictures = {f"test/cat/{number}.png": picture((200, number, 0)) for number in range(12)}
    pages = [drawn(folder_of(tmp_path / name, classes), pictures)[1] for name in ("one", "two")]
    assert pages[0] == pages[1]
    for path in (tmp_path / "one").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["predictions.jsonl", "ledger.json", "metrics.jsonl"])
def test_missing_files_of_an_older_model_are_reported(folder, name):
    (folder / name).unlink()
    found, source = drawn(folder)
    assert any(name in sentence and "--again" in sentence for sentence in found.missing)
    assert f"{name} is missing" in source
    assert (folder / "confusion.png").exists() == (name != "predictions.jsonl")


def test_folder_without_a_model_is_rejected(tmp_path):
    with pytest.raises(OpsError, match=r"no readable model\.json"):
        results.read_results("kennel-job", tmp_path)


def test_corrupt_lines_are_skipped_and_reported(folder):
    with (folder / "predictions.jsonl").open("a") as file:
        file.write('{"name": "cut off\n[1]\n{"top": [], "label": "cat"}\n')
    assert any("3 lines of predictions.jsonl" in sentence for sentence in results.read_results("job", folder).missing)


ODD = st.sampled_from([0.0, 0.5, 1.0, 1e-300, 1e300, -1.0, float("nan"), float("inf"), -float("inf"), None, "x"])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=st.lists(st.text(max_size=8) | st.sampled_from(HOSTILE), min_size=2, max_size=25, unique=True),
    epochs=st.lists(st.fixed_dictionaries({}, optional={"loss": ODD, "lr": ODD, "wait": ODD}), min_size=1, max_size=3),
    skill=st.sampled_from([0, 0.5, 1]),
    loss=ODD,
    chance=ODD,
)
def test_drawing_survives_odd_input(tmp_path, classes, epochs, skill, loss, chance):
    folder = folder_of(tmp_path / "odd", classes, each=2, skill=skill)
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    for line in lines[::2]:
        line["loss"], line["probabilities"] = loss, [chance]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curve = [
        {
            "epoch": number,
            "train": {"loss": odd.get("loss")},
            "valid": {"loss": odd.get("loss"), "accuracy": odd.get("loss")},
        }
        | {"lr": odd.get("lr"), "seconds": odd.get("wait"), "images_per_s": odd.get("lr"), "data_wait": odd.get("wait")}
        for number, odd in enumerate(epochs, 1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, curve)))
    found, source = drawn(folder, {line["name"]: b"no picture" for line in lines})
    assert len(found.pictures) == 2 * len(classes)
    source.encode()


@pytest.mark.parametrize(
    "content",
    ["", "null", "[]", '{"classes": 3, "metrics": {"test": 5}, "settings": []}', '{"metrics": [], "classes": ["a"]}'],
)
def test_odd_model_card_is_rejected_or_drawn(folder, content):
    (folder / "model.json").write_text(content)
    if content.startswith("{"):
        assert "not recorded" in drawn(folder)[1]
    else:
        with pytest.raises(OpsError, match=r"model\.json"):
            results.read_results("kennel-job", folder)


def test_names_of_133_classes_are_readable(tmp_path):
    """Every class has its name: at least 6 points high, and a cell as large as its letters."""
    from matplotlib.figure import Figure

    panel = Figure().subplots()
    names = [f"class_{number:03}" for number in range(133)]
    answer_plots.draw_labels_and_lines(panel, names, names, points=6.7)
    assert [label.get_text() for label in panel.get_yticklabels()] == names
    folder = folder_of(tmp_path / "model", names, each=2)
    found = results.read_results("kennel-job", folder)
    with Image.open(answer_plots.draw_confusion_matrix(found, folder / "confusion.png")) as image:
        assert image.width > 133 * 16


def test_thumbnails_are_made_of_safe_pictures_only():
    sideways = io.BytesIO()
    image = Image.new("RGB", (40, 20))
    image.getexif()[0x0112] = 6  # to be turned by 90 degrees
    image.save(sideways, "JPEG", exif=image.getexif())
    assert misclassified.make_thumbnail(sideways.getvalue()).size == (20, 40)
    assert max(misclassified.make_thumbnail(picture("red", size=(2000, 1000))).size) == 300
    assert misclassified.make_thumbnail(picture("red", "GIF")) is None
    assert misclassified.make_thumbnail(picture("red")[:40]) is None
    assert misclassified.make_thumbnail(picture("red", size=(9000, 9000))) is None
    assert misclassified.make_thumbnail(None) is None


def test_trials_are_drawn_in_any_state(tmp_path):
    done = [Trial(f"t{n}", 10.0**-n, 32 * n, 0.3 * n, "Completed", 9, "") for n in (1, 2, 3)]
    failed = Trial("t4", 0.1, 64, None, "Failed", None, "")
    for number, trials in enumerate(
        ([], [failed], done, [*done, failed], [replace(done[0], objective=float("nan"), lr=0)])
    ):
        drawing.draw_trials(trials, tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png", formats=("PNG",)) as image:
            assert image.width > 800
    assert (
        training_plots.format_trials_title(done[0], 3) == "Best of 3 trials: loss 0.3000 at learning rate 0.1, batch 32"
    )


def test_missing_matplotlib_names_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("ops.reports")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(OpsError, match=r"pip install -e '\.\[report\]'"):
        importlib.import_module("ops.reports.drawing")
