"""The WSGI application of each AWS service: moto's own, with our response classes in place of its classes.

Each service is imported at its first call: that takes up to seconds, moto's part included, and would delay the start.
"""

from __future__ import annotations

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


def find_response_class(service: str) -> Any:
    """Return the response class that replaces moto's, or None where moto's own is used."""
    match service:
        case "awslambda":
            from sandbox.function.responses import Functions

            return Functions
        case "sagemaker":
            from sandbox.sagemaker.responses import SageMaker

            return SageMaker
        case "sagemakerruntime":
            from sandbox.sagemaker.responses import Runtime

            return Runtime
        case "cloudwatch":
            from sandbox.cloudwatch.metrics import Metrics

            return Metrics
        case "logs":
            from sandbox.cloudwatch.log_responses import Logs

            return Logs
        case "codebuild":
            from sandbox.codebuild.responses import Builds

            return Builds
        case "applicationautoscaling":
            from sandbox.autoscaling.responses import Scaling

            return Scaling
        case "iam":
            from sandbox.iam.responses import Iam

            return Iam
        case "sts":
            from sandbox.iam.sts import Sts

            return Sts
        case "ec2":
            from sandbox.ec2.responses import Ec2

            return Ec2
        case "s3":
            from sandbox.s3.responses import S3

            return S3
        case "ec2instanceconnect":
            from sandbox.ec2.instance_connect import InstanceConnect

            return InstanceConnect
    return None


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
