"""Tests of Kennel."""
