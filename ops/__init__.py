"""The tools: a namespace of commands is a module here, or a package where one module would be too long."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
