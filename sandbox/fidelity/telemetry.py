"""The answers of CloudWatch and CloudWatch Logs."""

from __future__ import annotations

from sandbox.fidelity.case import Case, answered, prepare, refused

SOURCE = "recorded: localstack tests/aws/services/{logs,cloudwatch}/*.snapshot.json at 8b9a79f"
DOCUMENTED = "documented: CloudWatch API reference, errors of the operation"
GROUP, MISSING_GROUP = {"logGroupName": "score"}, {"logGroupName": "none"}
INVALID, MISSING = "InvalidParameterException", "ResourceNotFoundException"
NO_GROUP = r"^The specified log group does not exist\.$"
ALARM = {
    "AlarmName": "score", "Namespace": "AWS/SageMaker", "MetricName": "Invocations", "Period": 60, "EvaluationPeriods": 1,
    "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold", "Statistic": "Sum",
}  # fmt: skip
DESCRIBED = (
    "ActionsEnabled AlarmActions AlarmArn AlarmConfigurationUpdatedTimestamp AlarmName ComparisonOperator Dimensions "
    "EvaluationPeriods InsufficientDataActions MetricName Namespace OKActions Period StateReason "
    "StateTransitionedTimestamp StateUpdatedTimestamp StateValue Statistic Threshold"
)

CASES: list[Case] = [
    prepare("logs.create_log_group", GROUP),
    refused("logs.create_log_group", "a group that is there", GROUP, "ResourceAlreadyExistsException", "^The specified log group already exists"),
    refused("logs.create_log_group", "a name of 513 characters", {"logGroupName": "a" * 513}, INVALID, "length less than or equal to 512"),
    refused("logs.get_log_events", "a missing group", {**MISSING_GROUP, "logStreamName": "x"}, MISSING, NO_GROUP),
    refused("logs.get_log_events", "a missing stream", {**GROUP, "logStreamName": "x"}, MISSING, r"^The specified log stream does not exist\.$"),
    refused("logs.get_log_events", "10,001 events", {**GROUP, "logStreamName": "x", "limit": 10001}, INVALID, "less than or equal to 10000"),
    refused("logs.put_retention_policy", "17 days", {**GROUP, "retentionInDays": 17}, INVALID),
    refused("logs.filter_log_events", "a missing group", MISSING_GROUP, MISSING, NO_GROUP),
    answered("cloudwatch.put_metric_alarm", "a new alarm", ALARM),
    answered("cloudwatch.describe_alarms", "an alarm that has no data yet", {"AlarmNames": ["score"]}, fields=DESCRIBED, fields_at="MetricAlarms.0", equals={"MetricAlarms.0.StateValue": "INSUFFICIENT_DATA"}),
    refused("cloudwatch.put_metric_alarm", "periods of 45 s", {**ALARM, "Period": 45}, "ValidationError", source=DOCUMENTED),
    refused("cloudwatch.put_metric_alarm", "nine days of periods", {**ALARM, "Period": 86400, "EvaluationPeriods": 9}, "ValidationError", "^Metrics cannot be checked across more than", source=DOCUMENTED),
    refused("cloudwatch.put_metric_alarm", "no statistic", {key: value for key, value in ALARM.items() if key != "Statistic"}, "ValidationError", source=DOCUMENTED),
    answered("cloudwatch.delete_alarms", "a missing alarm", {"AlarmNames": ["none"]}),
]  # fmt: skip
