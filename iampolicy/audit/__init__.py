"""The audit: rules, what they are asked of, what was waived; and what a change would make of it."""
