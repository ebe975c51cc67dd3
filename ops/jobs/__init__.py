"""Training jobs: specify them, run them on SageMaker, tune and follow them, and explain why one failed."""
