"""Training jobs: their specification, SageMaker jobs, tuning, following them, and why one failed."""
