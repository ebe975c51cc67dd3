"""Roles and policies: iam_policies/ applied to the account, and the account audited."""

from __future__ import annotations

from ops.iam.applying import apply, diff, rollback  # noqa: F401
from ops.iam.asking import explain, simulate  # noqa: F401
from ops.iam.auditing import audit  # noqa: F401
from ops.iam.checking import check  # noqa: F401
from ops.iam.pruning import prune  # noqa: F401
from ops.iam.recording import necessary, record, suggestion  # noqa: F401
from ops.iam.restoring import restore  # noqa: F401
from ops.iam.revoking import revoke  # noqa: F401
