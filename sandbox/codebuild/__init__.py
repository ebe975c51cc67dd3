"""The sandbox's CodeBuild and ECR, which build images without Docker."""
