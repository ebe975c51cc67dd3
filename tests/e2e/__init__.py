"""Tests of commands as they are typed, and the recorder of what a whole run asks of AWS."""
