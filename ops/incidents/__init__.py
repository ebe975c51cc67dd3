"""Incidents: the runbooks that people follow when something breaks."""
