"""The page for people: one HTML file that sends a picture to the function URL and shows the classes as bars."""

from __future__ import annotations

import html
import json
from pathlib import Path

from ops.core.aws.account import Account
from ops.core.files import write_atomically
from ops.core.paths import WORK
from ops.function.url import require_url

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(account: Account) -> Path:
    """Write the page, and return its path. It holds no credentials. Raises OpsError without a function URL."""
    path = WORK / "pages" / f"{account.settings.function_name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path, render_page(require_url(account), account.settings.aws.region, account.settings.stack.name).encode()
    )
    return path


def render_page(url: str, region: str, stack: str) -> str:
    data = json.dumps({"url": url, "region": region}).replace("<", "\\u003c")  # no </script> inside of the script
    return TEMPLATE.read_text(encoding="utf-8").replace("{STACK}", html.escape(stack)).replace("{DATA}", data)
