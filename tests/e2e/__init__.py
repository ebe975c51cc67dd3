"""Tests of commands as they are typed, and of the boxes, jobs and servers that they start; and the recorder of what a whole run asks of AWS."""
