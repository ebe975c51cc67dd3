"""Every command of this repository. `invoke --list` shows them; a namespace is a file in ops/."""

from invoke import Collection

from bench import tasks as bench
from ops import data, ec2, fn, iam, net, runbook, sm
from ops.demo import demo
from ops.doctor import doctor
from sandbox import tasks as sandbox

ns = Collection(data, ec2, iam, net, runbook, sm, demo, doctor)
for name, module in {"bench": bench, "lambda": fn, "sandbox": sandbox}.items():
    ns.add_collection(Collection.from_module(module, name=name))
