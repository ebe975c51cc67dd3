"""From what IAM holds to what it is to hold, and back: differences, changes, what is kept on disk first."""
