"""SageMaker's endpoints: instances that answer, kept alive and replaced."""
