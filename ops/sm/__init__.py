"""SageMaker: train on one host or several, deploy, scale, ask, delete."""

from __future__ import annotations

from ops.sm.autoscaling import autoscale  # noqa: F401
from ops.sm.building import build  # noqa: F401
from ops.sm.capacity import capacity  # noqa: F401
from ops.sm.deploying import deploy, kept, package, rollback, tried  # noqa: F401
from ops.sm.drawing import report  # noqa: F401
from ops.sm.reaping import delete, reap  # noqa: F401
from ops.sm.showing import invoke, logs, metrics, smoke, status  # noqa: F401
from ops.sm.training import attach, evaluate, explain, stop, train  # noqa: F401
from ops.sm.trials import tune  # noqa: F401
