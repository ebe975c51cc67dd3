"""The front door: each request read once, decided on, and given to moto as it was read."""
