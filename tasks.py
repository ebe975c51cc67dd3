"""Every command of this repository. `invoke --list` shows them; a namespace is a file in ops/."""

from invoke import Collection

from ops import data, ec2, iam, net, sm
from sandbox import tasks as sandbox

ns = Collection(data, ec2, iam, net, sm)
ns.add_collection(Collection.from_module(sandbox, name="sandbox"))
