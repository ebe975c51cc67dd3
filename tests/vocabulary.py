"""Find the words that docs/vocabulary.toml rules out in the tracked files: `python -m tests.vocabulary`. It exits with 1 if there are any."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".html", ".j2"}


@dataclass(frozen=True)
class Vocabulary:
    """The words with their alternatives, and what is allowed in spite of them."""

    words: tuple[tuple[re.Pattern[str], str], ...]
    files: tuple[str, ...]
    phrases: tuple[str, ...]


def read_vocabulary(path: Path = ROOT / "docs" / "vocabulary.toml") -> Vocabulary:
    """Read the list. Raises KeyError for a word without an alternative, and for an exception without a reason."""
    listed = tomllib.loads(path.read_text())
    words = [(re.compile(rf"(?<![a-z])(?:{one['word']})(?![a-z])", re.I), one["instead"]) for one in listed["word"]]
    allowed = [one for one in listed["allow"] if one["reason"]]
    files = tuple(one["file"] for one in allowed if "file" in one)
    return Vocabulary(tuple(words), files, tuple(one["phrase"] for one in allowed if "phrase" in one))


def find_words(name: str, text: str, vocabulary: Vocabulary) -> Iterator[str]:
    """Yield a line for each word of the file that is on the list: FILE:LINE: WORD: use instead ..."""
    if any(name == file or (file.endswith("/") and name.startswith(file)) for file in vocabulary.files):
        return
    for number, line in enumerate(text.splitlines(), 1):
        for phrase in vocabulary.phrases:
            line = line.replace(phrase, "")
        for pattern, instead in vocabulary.words:
            for found in pattern.finditer(line):
                yield f"{name}:{number}: {found[0]}: use instead: {instead}"


def main() -> int:
    vocabulary = read_vocabulary()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [name for name in names.split("\0") if Path(name).suffix in SUFFIXES and (ROOT / name).is_file()]
    findings = [line for name in files for line in find_words(name, (ROOT / name).read_text(), vocabulary)]
    print("\n".join([*findings, f"{len(files)} files, {len(findings)} words of docs/vocabulary.toml"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
