"""The Lambda function in front of the endpoint: package, versions, alias, concurrency and invocation."""
