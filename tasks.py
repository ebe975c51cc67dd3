"""Every command of this repository. `invoke --list` shows them; a namespace is a file in ops/."""

from invoke import Collection

from ops import iam
from sandbox import tasks as sandbox

ns = Collection(iam)
ns.add_collection(Collection.from_module(sandbox, name="sandbox"))
