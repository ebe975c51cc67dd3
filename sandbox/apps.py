"""The WSGI application of each AWS service: moto's own, with our response classes in place of its classes.

Each service is imported at its first call: that takes up to seconds, moto's part included, and would delay the start.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from moto.core.utils import convert_to_flask_response
from moto.moto_server.werkzeug_app import create_backend_app

METHODS = ["GET", "POST", "PUT", "DELETE"]
# Paths that moto lacks, keyed by moto's name of the service.
MORE_PATHS = {
    "awslambda": [
        "/<api_version>/functions/<function_name>/provisioned-concurrency",
        "/<api_version>/account-settings",
    ]
}


# moto's name of a service -> the response class that replaces moto's; each is imported when its service is called first.
RESPONSES = {
    "awslambda": "sandbox.function.responses:Functions",
    "sagemaker": "sandbox.sagemaker.responses:SageMaker",
    "sagemakerruntime": "sandbox.sagemaker.responses:Runtime",
    "cloudwatch": "sandbox.cloudwatch.metrics:Metrics",
    "logs": "sandbox.cloudwatch.log_responses:Logs",
    "codebuild": "sandbox.codebuild.responses:Builds",
    "applicationautoscaling": "sandbox.autoscaling.responses:Scaling",
    "iam": "sandbox.iam.responses:Iam",
    "sts": "sandbox.iam.sts:Sts",
    "ec2": "sandbox.ec2.responses:Ec2",
    "s3": "sandbox.s3.responses:S3",
    "ec2instanceconnect": "sandbox.ec2.instance_connect:InstanceConnect",
}


def find_response_class(service: str) -> Any:
    """Return the response class that replaces moto's, or None where moto's own is used."""
    return pkgutil.resolve_name(RESPONSES[service]) if service in RESPONSES else None


def create_app(service: Any) -> Any:
    """Return the application of a service, for moto's dispatcher. Operations are looked up as methods by name.

    Raises NotImplementedError for a service that moto does not know.
    """
    if service is None:
        raise NotImplementedError("moto does not have this service")
    app = create_backend_app(service)
    app.debug = False
    app.config["PROPAGATE_EXCEPTIONS"] = True
    replacement = find_response_class(service)
    if replacement is None:
        return app
    for name in app.view_functions:  # such as `S3Response.key_dispatch2`
        method = name.partition(".")[2].rstrip("0123456789")
        app.view_functions[name] = convert_to_flask_response(getattr(replacement, method))
    view = convert_to_flask_response(replacement.dispatch)
    for number, path in enumerate(MORE_PATHS.get(service, [])):
        app.add_url_rule(path, endpoint=f"kennel{number}", view_func=view, methods=METHODS, strict_slashes=False)
    return app
