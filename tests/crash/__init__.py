"""Commands that are killed, or lose an answer, at any call that changes something; bench/crash.py runs them all."""
