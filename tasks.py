"""Every command of this repository. `invoke --list` shows them; a namespace is a file in ops/."""

from invoke import Collection

from ops import data, ec2, fn, iam, net, sm
from ops.demo import demo
from ops.doctor import doctor
from sandbox import tasks as sandbox

ns = Collection(data, ec2, iam, net, sm, demo, doctor)
ns.add_collection(Collection.from_module(fn, name="lambda"))
ns.add_collection(Collection.from_module(sandbox, name="sandbox"))
