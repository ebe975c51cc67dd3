"""What policies say, and what they decide: read strictly, compared by meaning, evaluated. Knows nothing of an account."""
