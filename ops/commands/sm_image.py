"""Building the serving container's image from the command line."""

from __future__ import annotations

from ops.core.aws.account import Account
from ops.core.task import Result, carry_out, task


# Not called `image`: as a name of the package, that would hide the module behind it.
@task(help={"json": "Print it as JSON."})
def image(c, json=False):
    """Build the serving container's image in CodeBuild and put it into ECR, unless it is there."""
    from ops.core import pricing
    from ops.core.errors import OpsError
    from ops.core.settings import REPOSITORY
    from ops.releases import image_build

    account = Account.from_context(c)
    have = image_build.facts(account)
    account.guard()
    if have.size is None and not have.build and not c.config.run.dry:
        image_build.upload(account, have.tag)
    done = carry_out(c, account, image_build.steps(have, account.settings))
    if c.config.run.dry:
        return None
    size = image_build.built(account, have.tag)
    if size is None:
        raise OpsError(f"The build succeeded, but ECR has no {REPOSITORY}:{have.tag}. Build it again: invoke sm.image")
    data = {"image": f"{account.settings.registry}/{REPOSITORY}:{have.tag}", "bytes": size, **done.data}
    monthly = pricing.stored_image(size)
    text = (
        f"{REPOSITORY}:{have.tag} is in ECR: {size / 1e6:.0f} MB, ${monthly:.3f} a month (list price). {done.text}. "
        "Next: invoke sm.deploy"
    )
    return Result(data, text, changes=done.changes)
