"""Stop all calls of the function, and let them in again: its limits change, and nothing else."""

from __future__ import annotations

from ops.core.errors import OpsError
from ops.core.plan import Steps
from ops.core.settings import Settings
from ops.function.plan import Facts, check_reservable_concurrency, set_concurrency_steps


def stop_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the changes that make every call end in 429: no provisioned concurrency, then 0 reserved."""
    stopped = settings.fn.model_copy(update={"reserved": 0})
    yield from set_concurrency_steps(have, settings.model_copy(update={"fn": stopped}))


def resume_steps(have: Facts, settings: Settings) -> Steps:
    """Yield the changes that set the limits of the settings. Raises OpsError when those stop all calls, or do not fit the account."""
    if settings.fn.reserved == 0:
        raise OpsError(
            "fn.reserved is 0, which stops all calls. Set it to 1 or more, or to null, and run the command again."
        )
    if have.alias is None and settings.fn.provisioned:
        raise OpsError(f"Function {settings.function_name} has no alias live yet. Create it: invoke lambda.deploy")
    check_reservable_concurrency(have, settings)
    yield from set_concurrency_steps(have, settings)
