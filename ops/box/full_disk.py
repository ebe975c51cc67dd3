"""Recognise a full disk of the box in what a program printed, and name the page that helps."""

from __future__ import annotations

NO_SPACE = "No space left on device"
PAGE = "runbooks/box-disk-full.md"


def take_reason(said: str) -> str:
    """Return the line that says why a program failed: the one about the disk, or else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if NO_SPACE in line), lines[-1] if lines else "it gave no reason").rstrip(".")


def suggest_fix(said: str, otherwise: str) -> str:
    """Return the page about a full disk where the reason is one, or else `otherwise`."""
    return f"The box's disk is full: invoke ec2.disk shows with what. See {PAGE}" if NO_SPACE in said else otherwise
