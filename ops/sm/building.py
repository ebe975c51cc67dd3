"""Building the serving container's image from the command line."""

from __future__ import annotations

from ops.aws import Account
from ops.cli import Answer, carry_out, task


# Not called `image`: as a name of the package, that would hide the module behind it.
@task(name="image", help={"json": "Print it as JSON."})
def build(c, json=False):
    """Build the serving container's image in CodeBuild and put it into ECR, unless it is there."""
    from ops import price
    from ops.config import REPOSITORY
    from ops.errors import OpsError
    from ops.sm import image

    account = Account.of(c)
    have = image.facts(account)
    account.guard()
    if have.size is None and not have.build and not c.config.run.dry:
        image.upload(account, have.tag)
    done = carry_out(c, account, image.steps(have, account.settings))
    if c.config.run.dry:
        return None
    size = image.built(account, have.tag)
    if size is None:
        raise OpsError(f"The build succeeded, but ECR has no {REPOSITORY}:{have.tag}. Build it again: invoke sm.image")
    data = {"image": f"{account.settings.registry}/{REPOSITORY}:{have.tag}", "bytes": size, **done.data}
    monthly = price.stored_image(size)
    text = (
        f"{REPOSITORY}:{have.tag} is in ECR: {size / 1e6:.0f} MB, ${monthly:.3f} a month (list price). {done.text}. "
        "Next: invoke sm.deploy"
    )
    return Answer(data, text, changes=done.changes)
