"""The settings' lock line: which image the next box gets, in the file that people read and commit."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from ops.box.images import Image
from ops.core.errors import OpsError

LINE = re.compile(r"^(?P<indent>[ \t]+)ami:[ \t]*(?:\"[^\"]*\"|'[^']*'|[^#\s]*)[ \t]*(?P<comment>#.*)?$", re.M)


def write(path: Path, image: Image) -> Path:
    """Put the image into the one `ami:` line of the section ec2; all else stays as it is. Raises OpsError when there is none."""
    text = path.read_text()
    section = re.search(r"^ec2:[^\n]*\n(?:[ \t]+[^\n]*\n|[ \t]*\n|#[^\n]*\n)*", text, re.M)
    lines = list(LINE.finditer(section[0])) if section else []
    if section is None or len(lines) != 1:
        raise OpsError(
            f'{path} has no line `ami: ""` under ec2: to write into. Add one, then again: invoke ec2.ami --lock'
        )
    indent = lines[0]["indent"]
    line = f"{indent}ami: {image.ident}  # locked {datetime.now(UTC):%Y-%m-%d}: {image.name}"
    start = section.start() + lines[0].start()
    new = text[:start] + line + text[section.start() + lines[0].end() :]
    part = path.with_name(path.name + ".part")
    part.write_text(new)
    part.replace(path)
    return path
