"""Tests of the IAM library."""
