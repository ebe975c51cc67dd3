"""SageMaker's training and tuning jobs, as processes."""
