"""SageMaker: training and tuning jobs as processes, endpoints as fleets of real servers."""
