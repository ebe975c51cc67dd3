"""The CloudWatch Logs calls that moto checks too little: retention periods, and streams that do not exist."""

from __future__ import annotations

from moto.core.exceptions import JsonRESTError
from moto.logs.responses import LogsResponse

RETENTION_DAYS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)


class Logs(LogsResponse):
    def put_retention_policy(self) -> str:
        days = self._get_param("retentionInDays")
        if days not in RETENTION_DAYS:
            raise JsonRESTError(
                "InvalidParameterException",
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must "
                f"satisfy enum value set: [{', '.join(map(str, RETENTION_DAYS))}]",
            )
        return super().put_retention_policy()

    def get_log_events(self) -> str:
        group = self.logs_backend.groups.get(self._get_param("logGroupName"))
        if group is not None and self._get_param("logStreamName") not in group.streams:
            raise JsonRESTError("ResourceNotFoundException", "The specified log stream does not exist.")
        return super().get_log_events()
