"""CodeBuild and ECR: images without Docker."""
