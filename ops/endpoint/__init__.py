"""The SageMaker endpoint: facts, plan, verified updates, alarms, scaling and removal."""
