"""What is wrong with a policy's text, before AWS is asked."""
