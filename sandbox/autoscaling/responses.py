"""Application Auto Scaling's API calls: moto keeps the records, capacity.py carries them out."""

from __future__ import annotations

import json
import secrets
from typing import Any

from moto.applicationautoscaling.exceptions import AWSValidationException
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.core.exceptions import JsonRESTError

from sandbox.autoscaling import capacity, schedules, tracking
from sandbox.world import World, get_world


class Scaling(ApplicationAutoScalingResponse):
    @property
    def request_params(self) -> dict[str, Any]:
        params: dict[str, Any] = json.loads(self.body)
        return params

    def find_target(self) -> Any:
        """Return the registered target that the request names, or None."""
        targets = self.applicationautoscaling_backend.targets.get(self.request_params["ScalableDimension"], {})
        return targets.get(self.request_params["ResourceId"])

    def require_target(self) -> Any:
        found = self.find_target()
        if found is None:
            raise build_not_found_error(f"No scalable target registered for {self.request_params['ResourceId']}")
        return found

    def register_scalable_target(self) -> str:
        """Register a target, or change a registered one's given fields; bring the capacity into bounds at once."""
        params, before = self.request_params, self.find_target()
        least = params.get("MinCapacity", before.min_capacity if before else None)
        most = params.get("MaxCapacity", before.max_capacity if before else None)
        if least is None or most is None:
            raise AWSValidationException("MinCapacity and MaxCapacity are required to register a new scalable target")
        if least > most:
            raise AWSValidationException("Maximum capacity cannot be less than minimum capacity")
        if params["ServiceNamespace"] == "sagemaker":
            validate_scalable_endpoint(get_world(), params["ResourceId"], least)
        response = super().register_scalable_target()
        target = self.require_target()
        given = params.get("SuspendedState", before.suspended_state if before else None) or {}
        target.suspended_state = {name: given.get(name, False) for name in tracking.SUSPENSIONS}
        if params["ServiceNamespace"] == "sagemaker":
            capacity.clamp_capacity(get_world(), target)
        return response

    def put_scaling_policy(self) -> str:
        self.require_target()
        params, backend = self.request_params, self.applicationautoscaling_backend
        for policy in self.find_policies():
            policy.delete_alarms(policy.account_id, policy.region_name)
        super().put_scaling_policy()
        policy = self.find_policies()[0]
        if params["ServiceNamespace"] == "sagemaker" and params["PolicyType"] == "TargetTrackingScaling":
            try:
                policy.alarms = create_tracking_alarms(get_world(), params)
            except KeyError as error:
                backend.policies = {key: p for key, p in backend.policies.items() if p is not policy}
                raise AWSValidationException(f"The sandbox does not support the metric {error}") from error
        found = [{"AlarmName": alarm.name, "AlarmARN": alarm.alarm_arn} for alarm in policy.alarms]
        return json.dumps({"PolicyARN": policy.policy_arn, "Alarms": found})

    def find_policies(self) -> list[Any]:
        """Return the policies with the request's name and resource: at most one."""
        params, every = self.request_params, self.applicationautoscaling_backend.policies.values()
        return [p for p in every if (p.policy_name, p.resource_id) == (params["PolicyName"], params["ResourceId"])]

    def delete_scaling_policy(self) -> str:
        """Delete a policy and its alarms."""
        if not self.find_policies():
            raise build_not_found_error(f"No scaling policy found: {self.request_params['PolicyName']}")
        return super().delete_scaling_policy()

    def deregister_scalable_target(self) -> str:
        """Deregister a target; delete its policies with their alarms, and its scheduled actions."""
        self.require_target()
        resource, backend = self.request_params["ResourceId"], self.applicationautoscaling_backend
        for key, policy in list(backend.policies.items()):
            if policy.resource_id == resource:
                policy.delete_alarms(policy.account_id, policy.region_name)
                del backend.policies[key]
        backend.scheduled_actions = [a for a in backend.scheduled_actions if a.resource_id != resource]
        return super().deregister_scalable_target()

    def put_scheduled_action(self) -> str:
        self.require_target()
        params = self.request_params
        found = self.find_actions()
        schedule = params.get("Schedule", found[0].schedule if found else "")
        try:
            schedules.validate_schedule(schedule, params.get("Timezone"))
        except (ValueError, KeyError) as error:  # an unknown timezone is a KeyError
            raise AWSValidationException(str(error)) from error
        response = super().put_scheduled_action()
        self.find_actions()[0].begun = get_world().clock.utc().timestamp()
        return response

    def find_actions(self) -> list[Any]:
        params, every = self.request_params, self.applicationautoscaling_backend.scheduled_actions
        wanted = (params["ScheduledActionName"], params["ResourceId"])
        return [a for a in every if (a.scheduled_action_name, a.resource_id) == wanted]

    def delete_scheduled_action(self) -> str:
        if not self.find_actions():
            raise build_not_found_error(f"No scheduled action found: {self.request_params['ScheduledActionName']}")
        return super().delete_scheduled_action()

    def describe_scaling_activities(self) -> str:
        params = self.request_params
        found = capacity.list_scaling_activities(
            get_world(), params.get("ResourceId"), params.get("IncludeNotScaledActivities", False)
        )
        first = int(params.get("NextToken") or 0)
        last = first + (params.get("MaxResults") or 50)
        more = {"NextToken": str(last)} if last < len(found) else {}
        return json.dumps({"ScalingActivities": found[first:last], **more})


def build_not_found_error(message: str) -> JsonRESTError:
    return JsonRESTError("ObjectNotFoundException", message)


def validate_scalable_endpoint(world: World, resource: str, least: int) -> None:
    """Raise AWS's error for an endpoint that cannot be scaled, or not now."""
    _, name, _, variant = resource.split("/")
    sagemaker = world.backend("sagemaker")
    record = sagemaker.endpoints.get(name)
    if record is not None and record.endpoint_status in ("Updating", "SystemUpdating", "RollingBack"):
        raise JsonRESTError("ConcurrentUpdateException", f"A concurrent update of {resource} is in progress")
    if record is None or record.endpoint_status != "InService":
        raise AWSValidationException(f"Endpoint of {resource} is not in service")
    have = sagemaker.endpoint_configs[record.endpoint_config_name].production_variants[0]
    if have["VariantName"] != variant:
        raise AWSValidationException(f"Endpoint {name} has no variant {variant}")
    if have["InstanceType"].startswith("ml.t2."):
        raise AWSValidationException(f"{have['InstanceType']} is burstable; automatic scaling does not support it")
    if least < 1:
        raise AWSValidationException("Minimum capacity of a variant cannot be less than 1")


def create_tracking_alarms(world: World, params: dict[str, Any]) -> list[Any]:
    """Create target tracking's alarms; capacity.py sets their states. Raises KeyError for an unknown metric."""
    _, endpoint, _, variant = params["ResourceId"].split("/")
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}]
    alarms = []
    for parts in tracking.build_alarm_parameters(params["TargetTrackingScalingPolicyConfiguration"]):
        level = "High" if parts["comparison_operator"] == "GreaterThanThreshold" else "Low"
        alarm = world.backend("cloudwatch").put_metric_alarm(
            name=f"TargetTracking-{params['ResourceId']}-Alarm{level}-{secrets.token_hex(8)}",
            namespace="AWS/SageMaker",
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {params['PolicyName']}.",
            dimensions=dimensions,
            alarm_actions=[],
            **parts,
        )
        alarm.state_value = "INSUFFICIENT_DATA"
        alarms.append(alarm)
    return alarms
