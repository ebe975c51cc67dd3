"""Application Auto Scaling and CloudWatch's alarms."""
