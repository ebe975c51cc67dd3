"""Who owns a role that the account itself cannot change: a service of AWS, or IAM Identity Center."""

from __future__ import annotations


def is_service_linked(path: str) -> bool:
    """Return whether a role with this IAM path is service-linked: its service creates and deletes it."""
    return path.startswith("/aws-service-role/")


def is_of_identity_center(name: str, path: str) -> bool:
    """Return whether IAM Identity Center made the role from a permission set, and undoes changes to it."""
    return name.startswith("AWSReservedSSO_") or path.startswith("/aws-reserved/")


def extract_permission_set(name: str) -> str:
    """Return the permission set of a role of Identity Center: ReadData for AWSReservedSSO_ReadData_0123456789abcdef."""
    return name.removeprefix("AWSReservedSSO_").rpartition("_")[0] or name
