"""Tests of Kennel, in layers by folder.

unit      No process but the tests' own.
sandbox   Commands run in the tests' process, as if they had been typed, against one local AWS a session.
e2e       Commands as they are typed, and what they start: boxes, training jobs, servers, the demo. Half of the time is waiting.
"""
