"""Tests of commands in this process, against one sandbox a session."""
