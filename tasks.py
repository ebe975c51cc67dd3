"""Every command of this repository, assembled from the modules that hold them. `invoke --list` shows them."""

import gc
import os
import sys

from invoke import Collection, Task

# Invoke turns Python's cache of compiled modules off; with it a command starts 0.1 s sooner.
sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))

# Loading makes objects that stay: searching them for garbage costs a twentieth of `invoke --list`. The executor switches it on again.
gc.disable()

from ops.core import interrupts  # noqa: E402

if "invoke.main" in sys.modules:  # and not in a test that imports the commands
    interrupts.handle_early()

from bench import commands as bench  # noqa: E402
from ops.commands import (  # noqa: E402
    data,
    demo,
    doctor,
    ec2,
    evidence,
    iam_apply,
    iam_audit,
    iam_check,
    iam_explain,
    iam_prune,
    iam_revoke,
    iam_simulate,
    iam_usage,
    lambda_,
    net,
    runbook,
    sm_capacity,
    sm_cleanup,
    sm_endpoint,
    sm_release,
    sm_report,
    sm_scaling,
    sm_training,
    sm_tuning,
    stack,
)
from ops.core import entry  # noqa: E402
from sandbox import commands as sandbox  # noqa: E402

entry.install()

NAMESPACES = {
    "bench": [bench],
    "data": [data],
    "ec2": [ec2],
    "iam": [iam_apply, iam_audit, iam_check, iam_explain, iam_prune, iam_revoke, iam_simulate, iam_usage],
    "lambda": [lambda_],
    "net": [net],
    "runbook": [runbook],
    "sandbox": [sandbox],
    "sm": [sm_capacity, sm_cleanup, sm_endpoint, sm_release, sm_report, sm_scaling, sm_training, sm_tuning],
    "stack": [stack],
}

ns = Collection(demo.demo, doctor.doctor, evidence.evidence)
for name, modules in NAMESPACES.items():
    namespace = Collection(name)
    for module in modules:
        for task in vars(module).values():
            if isinstance(task, Task):
                namespace.add_task(task)
    ns.add_collection(namespace)
