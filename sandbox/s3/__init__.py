"""S3 beyond moto: what a new bucket begins with, checksums, and refusals."""
